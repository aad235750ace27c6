"""How the workers of a fit start: how long it looks for their place, and who judges a start that fails.

The controller of the fit, a process of its own, imports this module, so it imports no torch.
"""

from __future__ import annotations

import time
from typing import Any

from ray.train import ControllerError

from pbrlib.errors import OutageError
from pbrlib.train.record.timesheet import enter_stage
from ray_jobs.fit.currentphase import CurrentPhase
from ray_jobs.fit.failures import WorkerFailedError, rank_failure
from ray_jobs.rayinternals import (
    ControllerCallback,
    InitializingState,
    PreemptingState,
    ReschedulingState,
    ResizingState,
    RestartingState,
    RunningState,
    SchedulingState,
    WorkerGroupCallback,
    WorkerGroupStartupFailedError,
)

_PAUSE_S = 0.5
"""Between two looks for the place of workers whose number may vary: Ray looks again at once."""


class StartWatch(ControllerCallback):
    """Ends a fit that finds no place, or in whose start a worker died; its command judges that.

    Ray has no limit for a search where the number of workers may vary. Otherwise it counts the looks of all
    searches in the life of a fit together, and the deaths in a start with them.

    Args:
        patience_s: How long one search may last, from the start of the fit or the loss of its workers.
        current: The phase that the fit trains.
        complaint: What the error says after the title of the phase.
    """

    def __init__(self, *, patience_s: float, current: CurrentPhase, complaint: str) -> None:
        self._patience_s, self._current, self._complaint = patience_s, current, complaint
        self._searches_since: float | None = None

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Runs in the controller after every look; raising is its end.

        Raises:
            WorkerFailedError: A worker died in its start.
            OutageError: The search has lasted too long.
        """
        match current_state:
            case ReschedulingState(
                training_failed_error=ControllerError(
                    controller_failure=WorkerGroupStartupFailedError() as error
                )
            ):
                raise WorkerFailedError(rank_failure(error), began=time.time())
            case RunningState() | PreemptingState():
                self._searches_since = None
            case (
                InitializingState()
                | SchedulingState()
                | ReschedulingState()
                | RestartingState()
                | ResizingState()
            ):
                self._search(is_same=current_state is previous_state)

    def _search(self, *, is_same: bool) -> None:
        now = time.monotonic()
        if self._searches_since is None:
            self._searches_since = now
        if now - self._searches_since > self._patience_s:
            raise OutageError(f"{self._current.title}: {self._complaint}")
        if is_same:
            time.sleep(_PAUSE_S)


class PlaceOfFailedStart(ControllerCallback, WorkerGroupCallback):
    """Gives the place of workers back that were lost after they had it and before they trained.

    Ray has forgotten those by then, and their place would stay taken until the command ends: another fit of
    the command would wait for it. To hear of the place it has to be the first of all callbacks.
    """

    def __init__(self) -> None:
        self._place: Any = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Runs when all workers are there, before they are joined to a group."""
        self._place = worker_group.get_worker_group_state().placement_group_handle

    def after_worker_group_shutdown(self, worker_group_context: Any) -> None:
        """Of these workers Ray knew, and has given their place back."""
        self._place = None

    async def before_controller_shutdown(self) -> None:
        """Runs at the end of the fit, however it ends."""
        if self._place is not None:
            self._place.shutdown()


class StartStages(WorkerGroupCallback):
    """Enters into the time sheet of a phase what its workers are doing before they run our code."""

    def __init__(self, current: CurrentPhase) -> None:
        self._current = current

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Runs when the resources of the workers are asked for."""
        enter_stage(self._current.directory, "workers")

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Runs when the workers are joined to a group, and before they load the train function."""
        enter_stage(self._current.directory, "program")

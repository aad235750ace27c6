"""Callbacks for the start of a fit's workers: the limit of its search for resources, and failed starts.

The controller of the fit, a separate process, imports this module, so the module imports no torch.
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
"""Seconds between two searches if the number of workers may vary; Ray itself does not pause."""


class StartWatch(ControllerCallback):
    """Ends a fit that finds no resources for its workers, or in whose start a worker died.

    Ray has no limit for a search if the number of workers may vary. Otherwise it counts the attempts of all
    searches in the life of a fit together, and the deaths in a start with them.

    Args:
        patience_s: Time limit of one search, from the start of the fit or the loss of its workers.
        current: The phase that the fit trains.
        complaint: What the error says after the title of the phase.
    """

    def __init__(self, *, patience_s: float, current: CurrentPhase, complaint: str) -> None:
        self._patience_s, self._current, self._complaint = patience_s, current, complaint
        self._searches_since: float | None = None

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Check the state of the controller after every search; an error raised here ends the fit.

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
    """Frees the placement group of workers that were lost after they were placed and before they trained.

    Ray does not free it, so another fit of the command would wait for it until the command ends. This
    callback has to be the first one: Ray calls none after one that fails, such as that of the process group.
    """

    def __init__(self) -> None:
        self._group: Any = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Store the placement group when all workers are there, before they form a process group."""
        self._group = worker_group.get_worker_group_state().placement_group_handle

    def after_worker_group_shutdown(self, worker_group_context: Any) -> None:
        """Forget a placement group that Ray has freed."""
        self._group = None

    async def before_controller_shutdown(self) -> None:
        """Free the placement group at the end of the fit, if Ray has not."""
        if self._group is not None:
            self._group.shutdown()


class StartStages(WorkerGroupCallback):
    """Writes the stages of a start before the train function into the time sheet of the phase."""

    def __init__(self, current: CurrentPhase) -> None:
        self._current = current

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Write the stage in which workers are placed and started."""
        enter_stage(self._current.directory, "workers")

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Write the stage in which workers load the train function."""
        enter_stage(self._current.directory, "program")

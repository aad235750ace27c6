"""Who is told of a phase beside its journal: MLflow and Weights & Biases, imported only when asked for.

They hear what TensorBoard hears: the scalars, and the hyperparameters. Addresses and keys are their own
environment variables, on the node of rank 0.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from pbrlib import storage
from pbrlib.errors import ConfigError, OutageError, PbrError, first_line
from pbrlib.train.runtimespec import TrackerName

if TYPE_CHECKING:
    from pbrlib.train.phase import PhaseRun

IDENTITY = "pbr.identity"
"""The tag by which a phase finds its MLflow run again."""

_URI = "MLFLOW_TRACKING_URI"
_WAITING = 1000
"""So many batches of values wait for a slow server; those beyond are left out."""
_START_S = 120.0  # wandb gives its process 30 s, too few on a node whose cores are all busy
_PATIENCE_S = 60.0
"""So long a finished phase waits for what is still on its way."""


class Tracker(Protocol):
    """One run of a tracking service."""

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Passes values on without waiting for anybody."""
        ...

    def close(self, *, failed: bool) -> str | None:
        """Ends the run; returns what the service did not get, where it did not get everything."""
        ...


@dataclass(frozen=True)
class Tracked:
    """What a service knows of a phase.

    ``identity`` is that of the phase in its folder: a resumed phase has the same, so it continues its run;
    the same training in another runs directory is another run. ``resumes``: it was taken once already.
    """

    curriculum: str
    phase: str
    identity: str
    directory: Path
    tags: Mapping[str, str | int | float]
    resumes: bool = False

    @property
    def refusal(self) -> type[PbrError]:
        """What it is when a service does not take it: later on, an outage."""
        return OutageError if self.resumes else ConfigError

    @property
    def title(self) -> str:
        """As people call it."""
        return f"{self.curriculum}/{self.phase}"


def require(trackers: Iterable[TrackerName]) -> None:
    """Raises ConfigError where the package of a tracker is not installed here."""
    missing = [name for name in trackers if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"trackers: {', '.join(missing)} not installed. Run pip install 'pbrlib[{','.join(missing)}]', "
            "on a cluster in its image, or take it out of the runtime file."
        )


def identity(fingerprint: str, directory: Path) -> str:
    """Of a phase in its folder, in sixteen hexadecimal digits."""
    return hashlib.sha256(f"{fingerprint} {directory}".encode()).hexdigest()[:16]


def open_trackers(run: PhaseRun, *, resumes: bool) -> list[Tracker]:
    """The runs of a phase, begun or continued.

    Raises ConfigError where a service does not take it, OutageError where it did when the phase began.
    """
    names = run.runtime.trackers
    require(names)
    tracked = Tracked(
        curriculum=run.directory.parent.name,
        phase=run.name,
        identity=identity(run.fingerprint, run.directory),
        directory=run.directory,
        tags=run.tags,
        resumes=resumes,
    )
    opened: list[Tracker] = []
    try:
        for name in names:
            opened.append(_open(name, tracked))  # noqa: PERF401  # those before one that fails are closed
    except BaseException:
        for tracker in opened:
            tracker.close(failed=True)
        raise
    return opened


def _open(name: TrackerName, tracked: Tracked) -> Tracker:
    match name:
        case "mlflow":
            return MlflowTracker(tracked)
        case "wandb":
            return WandbTracker(tracked)
        case _:
            assert_never(name)


class MlflowTracker:
    """A run in the experiment of the curriculum, sent by one thread of its own."""

    def __init__(self, tracked: Tracked) -> None:
        from mlflow.exceptions import MlflowException

        if not os.environ.get(_URI):
            raise ConfigError(
                f"trackers: mlflow does not know where to write. Set {_URI} where the workers run, to the "
                "address of a server or to a file as in sqlite:////data/mlflow.db."
            )
        try:
            self._begin(tracked)
        except (MlflowException, OSError) as error:
            raise tracked.refusal(
                f"trackers: mlflow at {_URI} does not take the run ({first_line(error)}). "
                "Correct the address, or take mlflow out of the runtime file."
            ) from error
        self._pool, self._sent = ThreadPoolExecutor(1, "mlflow"), deque[Future[None]]()
        self._left_out, self._reason = 0, "the server is too slow"

    def _begin(self, tracked: Tracked) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        known = self._client.get_experiment_by_name(tracked.curriculum)
        experiment = known.experiment_id if known else self._client.create_experiment(tracked.curriculum)
        found = self._client.search_runs([experiment], f"tags.`{IDENTITY}` = '{tracked.identity}'")
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        tags = {IDENTITY: tracked.identity, "pbr.directory": str(tracked.directory)}
        self._id = self._client.create_run(experiment, run_name=tracked.title, tags=tags).info.run_id
        params = [Param(name, str(value)) for name, value in tracked.tags.items()]
        self._client.log_batch(self._id, params=params)

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Hands the values to the thread."""
        while self._sent and self._sent[0].done():
            self._look_at(self._sent.popleft())
        if len(self._sent) < _WAITING:
            self._sent.append(self._pool.submit(self._send, dict(values), step, int(1000 * time.time())))
        else:
            self._left_out += 1

    def _send(self, values: Mapping[str, float], step: int, stamp: int) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, stamp, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def _look_at(self, sent: Future[None]) -> None:
        if (error := sent.exception()) is not None:
            self._left_out, self._reason = self._left_out + 1, first_line(error)

    def close(self, *, failed: bool) -> str | None:
        """Waits a while for what is on its way."""
        done, late = wait(self._sent, timeout=_PATIENCE_S)
        for sent in done:
            self._look_at(sent)
        self._left_out += len(late)
        end = self._pool.submit(self._client.set_terminated, self._id, "FAILED" if failed else "FINISHED")
        wait([end], timeout=_PATIENCE_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        lost = self._left_out + (not end.done() or end.exception() is not None)
        return f"mlflow: {lost} entries did not arrive ({self._reason})" if lost else None


class WandbTracker:
    """A run in the group of the curriculum; wandb sends by a process of its own."""

    def __init__(self, tracked: Tracked) -> None:
        import wandb

        # Neither the user's repository nor the output of a worker is anybody's business there.
        settings = wandb.Settings(
            console="off",
            disable_git=True,
            disable_code=True,
            silent=True,
            x_service_wait=_START_S,
            finish_timeout=_PATIENCE_S,
            finish_timeout_raises=True,
        )
        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "pbr"),
                group=tracked.curriculum,
                name=tracked.title,
                id=tracked.identity,
                resume="allow",
                dir=str(storage.local_folder(tracked.directory)),
                config=dict(tracked.tags),
                settings=settings,
            )
        except (wandb.Error, OSError) as error:
            raise tracked.refusal(
                f"trackers: wandb does not take the run ({first_line(error)}). Where the workers run, set "
                "WANDB_API_KEY, or WANDB_MODE=offline for `wandb sync` later; or take wandb out of the "
                "runtime file."
            ) from error

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Hands the values to wandb's process."""
        self._run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> str | None:
        """Waits a while until wandb has everything."""
        try:
            self._run.finish(exit_code=int(failed))
        except TimeoutError:
            return (
                f"wandb: not everything arrived within {_PATIENCE_S:.0f} s; `wandb sync` sends what is left"
            )
        return None

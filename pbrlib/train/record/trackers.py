"""Sends the metrics of a phase to MLflow and Weights & Biases, which are imported only if configured.

Trackers get the scalars and hyperparameters that TensorBoard gets. Their addresses and keys come from their
own environment variables on the node of rank 0.
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
"""The tag that identifies the MLflow run of a phase."""

_URI = "MLFLOW_TRACKING_URI"
_WAITING = 1000
"""Largest number of queued value batches for a slow server; further ones are dropped."""
_START_S = 120.0  # wandb gives its process 30 s, too few on a node whose cores are all busy
_PATIENCE_S = 60.0
"""Seconds that a finished phase waits for values that are still being sent."""


class Tracker(Protocol):
    """One run of a tracking service."""

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Send values without blocking."""
        ...

    def close(self, *, failed: bool) -> str | None:
        """End the run; return a description of values that did not arrive, or None."""
        ...


@dataclass(frozen=True)
class Tracked:
    """A phase as a tracking service stores it.

    ``identity`` identifies the phase in its folder: a resumed phase has the same identity and continues its
    run; the same training in another runs directory is another run. ``resumes`` is true for a resumed phase.
    """

    curriculum: str
    phase: str
    identity: str
    directory: Path
    tags: Mapping[str, str | int | float]
    resumes: bool = False

    @property
    def refusal(self) -> type[PbrError]:
        """The error class if a service rejects the run: an outage for a resumed phase, else a mistake."""
        return OutageError if self.resumes else ConfigError

    @property
    def title(self) -> str:
        """The display name of the phase."""
        return f"{self.curriculum}/{self.phase}"


def require(trackers: Iterable[TrackerName]) -> None:
    """Raise ConfigError if the package of a tracker is not installed here."""
    missing = [name for name in trackers if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"trackers: {', '.join(missing)} not installed. Run pip install 'pbrlib[{','.join(missing)}]' "
            "(on a cluster: in its image), or remove it from the runtime file."
        )


def identity(fingerprint: str, directory: Path) -> str:
    """Return the identity of a phase in its folder, as sixteen hexadecimal digits."""
    return hashlib.sha256(f"{fingerprint} {directory}".encode()).hexdigest()[:16]


def open_trackers(run: PhaseRun, *, resumes: bool) -> list[Tracker]:
    """Start or continue the tracking runs of a phase.

    Raises ConfigError if a service rejects the run, or OutageError if the phase is resumed.
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
            opened.append(_open(name, tracked))  # noqa: PERF401  # on a failure, the runs opened so far are closed
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
    """An MLflow run in the curriculum's experiment; a separate thread sends the values."""

    def __init__(self, tracked: Tracked) -> None:
        from mlflow.exceptions import MlflowException

        if not os.environ.get(_URI):
            raise ConfigError(
                f"trackers: got mlflow without {_URI}; expected an address. Set the variable "
                "where the workers run, to the address of a server or to a file like sqlite:////data/mlflow.db."
            )
        try:
            self._begin(tracked)
        except (MlflowException, OSError) as error:
            raise tracked.refusal(
                f"trackers: mlflow at {_URI} rejects the run ({first_line(error)}). "
                "Correct the address, or remove mlflow from the runtime file."
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
        """Queue the values for the sending thread."""
        while self._sent and self._sent[0].done():
            self._check_sent(self._sent.popleft())
        if len(self._sent) < _WAITING:
            self._sent.append(self._pool.submit(self._send, dict(values), step, int(1000 * time.time())))
        else:
            self._left_out += 1

    def _send(self, values: Mapping[str, float], step: int, stamp: int) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, stamp, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def _check_sent(self, sent: Future[None]) -> None:
        if (error := sent.exception()) is not None:
            self._left_out, self._reason = self._left_out + 1, first_line(error)

    def close(self, *, failed: bool) -> str | None:
        """Wait a limited time for queued values and end the run."""
        done, late = wait(self._sent, timeout=_PATIENCE_S)
        for sent in done:
            self._check_sent(sent)
        self._left_out += len(late)
        end = self._pool.submit(self._client.set_terminated, self._id, "FAILED" if failed else "FINISHED")
        wait([end], timeout=_PATIENCE_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        lost = self._left_out + (not end.done() or end.exception() is not None)
        return f"mlflow: {lost} entries did not arrive ({self._reason})" if lost else None


class WandbTracker:
    """A Weights & Biases run in the curriculum's group; wandb's own process sends the values."""

    def __init__(self, tracked: Tracked) -> None:
        import wandb

        # The user's repository and the output of workers are private, so they are not uploaded.
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
                f"trackers: wandb rejects the run ({first_line(error)}). Where the workers run, set "
                "WANDB_API_KEY, or WANDB_MODE=offline for `wandb sync` later; or remove wandb from the "
                "runtime file."
            ) from error

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Pass the values to wandb's process."""
        self._run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> str | None:
        """Wait a limited time until wandb has sent everything."""
        try:
            self._run.finish(exit_code=int(failed))
        except TimeoutError:
            return (
                f"wandb: not everything arrived within {_PATIENCE_S:.0f} s; `wandb sync` sends what is left"
            )
        return None

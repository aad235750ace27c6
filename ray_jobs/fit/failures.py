"""Classify how the attempts of a fit end, decide whether another one follows, and record it.

The controller of the fit, a separate process, imports this module, so the module imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray.exceptions as lost
from ray.train import UserCallback

from pbrlib import errors, storage
from pbrlib.train.checkpoint.state import newest_step
from pbrlib.train.failures import Cause, Failures, RankFailure, primary_failure
from pbrlib.train.record.incidents import FAILURE, note_incident, read_incidents
from ray_jobs.fit.currentphase import CurrentPhase

_SHOWN = 300
"""Characters of a message that are kept, since the message of an unknown error may be a whole log."""

_PEER = re.compile(r"(closed|reset) by peer|broken pipe|remote process exited", re.IGNORECASE)
"""Messages of the backends of torch.distributed when another rank is gone."""

_FULL_DEVICE = re.compile(r"CUDA error: out of memory|CU(BLAS|DNN|SOLVER)_STATUS_ALLOC_FAILED")
"""Messages of CUDA and its libraries for what torch's allocator raises as OutOfMemoryError."""

_MEMORY = "running low on memory"
"""The part of an actor's error that says that Ray's memory monitor killed it."""


RETRIED = "retried"
"""The verdict on a failure that another attempt follows."""


class WorkerFailedError(Exception):
    """The failure of a worker, in values that can be pickled on the way to the controller.

    ``began``, a time, distinguishes the attempts of one rank.
    """

    def __init__(self, failure: RankFailure, began: float) -> None:
        super().__init__(failure, began)
        self.failure = failure

    def __str__(self) -> str:
        one = self.failure
        return f"rank {one.rank}, step {one.step}: {one.error}: {one.message}"


def failed(error: BaseException, *, rank: int, step: int | None, began: float) -> WorkerFailedError:
    """Return the error that a worker raises to its controller."""
    return WorkerFailedError(_failure(error, rank=rank, step=step), began)


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes; Ray wraps the errors of tasks and of dead workers."""
    while error is not None:
        yield error
        inner = getattr(error, "cause", None) or getattr(error, "health_check_failure", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__


def pbr_error_in(error: BaseException | None) -> errors.PbrError | None:
    """Return the PbrError among an error and its causes, or None; Ray Data wraps those of its tasks."""
    for one in causes_of(error):
        if isinstance(one, errors.PbrError) and type(one).__module__ == errors.__name__:
            return one
        if isinstance(one, WorkerFailedError) and hasattr(errors, one.failure.error):
            kind: type[errors.PbrError] = getattr(errors, one.failure.error)
            return kind(one.failure.message)
    return None


def write_failure(directory: Path, error: errors.PbrError) -> None:
    """Write the error that stops a phase, so that its next attempt ends at once; raises DataError."""
    note = {"kind": type(error).__name__, "message": str(error)}
    storage.write_atomic(directory / FAILURE, json.dumps(note))


def raise_failure(directory: Path) -> None:
    """Raise the PbrError that stops a phase, if there is one."""
    path = directory / FAILURE
    if path.exists():
        note = json.loads(path.read_text())
        kind: type[errors.PbrError] = getattr(errors, note["kind"])
        raise kind(note["message"])


def retries_spent(directory: Path, *, since: float) -> int | None:
    """Return how many retries a phase has spent; None unless the last failure since a time was retried."""
    failures = [
        line for line in read_incidents(directory) if line["kind"] == "failed" and line["at"] >= since
    ]
    if not failures or failures[-1]["verdict"] != RETRIED:
        return None
    return int(failures[-1]["retries_spent"])


class FailureWatch(UserCallback):
    """Writes every failed attempt down in the controller, and stops a phase whose failure would repeat.

    ``counted`` is the number of retries of the current phase that are spent.
    """

    counted = 0

    def __init__(self, current: CurrentPhase, *, max_failures: int) -> None:
        self._current, self._max_failures = current, max_failures
        self._directory, self._failures = current.directory, Failures(current.name)
        self._committed = 0
        self._seen: set[str] = set()

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Count the retries anew when the workers begin another phase."""
        if self._current.directory != self._directory:
            self._directory, self._failures = self._current.directory, Failures(self._current.name)
            self.counted = self._committed = 0

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Judge a failed attempt before Ray decides; Ray may call this twice for the same dead workers."""
        names = {repr(error) + str(error) for error in worker_exceptions.values()}
        is_known, self._seen = bool(names & self._seen), self._seen | names
        if not is_known:
            self._judge([rank_failure(error, rank=rank) for rank, error in worker_exceptions.items()])

    def failed_to_start(self, error: Exception) -> bool:
        """Judge a failed start, in the command after its fit; return whether another attempt may follow."""
        return self._judge([rank_failure(error)])

    def _judge(self, attempt: Sequence[RankFailure]) -> bool:
        """Record the failure of an attempt; return whether another attempt may follow."""
        failure = primary_failure(attempt)
        with suppress(OSError, errors.DataError):  # the last known step is used
            self._committed = newest_step(self._directory)
        # A node that is taken away costs none of the retries.
        self.counted += not any(one.preempted for one in attempt)
        repeated = self._failures.judge(attempt, committed=self._committed)
        verdict = RETRIED
        if self._stops(repeated):
            verdict = "stops: it would repeat"
        elif self.counted > self._max_failures:
            verdict = f"stops: max_failures is {self._max_failures}"
        note_incident(
            self._directory,
            "failed",
            step=failure.step,
            committed=self._committed,
            rank=failure.rank,
            cause=failure.cause,
            error=failure.error,
            message=failure.message,
            verdict=verdict,
            retries_spent=self.counted,
        )
        return verdict == RETRIED

    def _stops(self, repeated: errors.RepeatedError | None) -> bool:
        """Return whether the next attempt has to end; False if the error that says so cannot be written."""
        try:
            if repeated is not None:
                write_failure(self._directory, repeated)
            return (self._directory / FAILURE).exists()
        except errors.DataError:
            return False


def rank_failure(error: BaseException, *, rank: int | None = None) -> RankFailure:
    """Return how a rank ended, by the error that the controller has; in a start its rank is unknown."""
    for one in causes_of(error):
        if isinstance(one, WorkerFailedError):
            return one.failure
    return _failure(error, rank=rank)


def _failure(error: BaseException, *, rank: int | None, step: int | None = None) -> RankFailure:
    failed = next((one for one in causes_of(error) if _cause(one) != "error"), error)
    preempted = any(isinstance(one, lost.RayActorError) and one.preempted for one in causes_of(error))
    return RankFailure(_cause(failed), type(failed).__name__, message_of(failed), rank, step, preempted)


def _cause(error: BaseException) -> Cause:
    match error:
        case lost.RayTaskError():
            return "error"  # its cause says more
        case errors.OutageError():
            return "outage"
        case errors.PbrError():
            return "mistake"
        case lost.OutOfMemoryError() | MemoryError():
            return "host memory"
        case lost.RayActorError() | lost.WorkerCrashedError() | lost.NodeDiedError():
            return "host memory" if _MEMORY in str(error) else "lost"
        case lost.RayError() | ConnectionError() | TimeoutError():
            return "outage"
    name = type(error).__name__  # torch is not imported here
    if name in ("DistNetworkError", "DistStoreError"):
        return "outage"  # a port that another process took first, a rendezvous that does not answer
    if name == "OutOfMemoryError" or _FULL_DEVICE.search(str(error)):
        return "device memory"
    if _PEER.search(str(error)):
        return "peer"
    return "error"


def message_of(error: BaseException) -> str:
    """Return the whole message of a PbrError, the first line of another error without its full stop."""
    if isinstance(error, errors.PbrError):
        return str(error)
    return errors.first_line(error)[:_SHOWN].rstrip(".")

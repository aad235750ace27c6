"""Train consecutive phases of a curriculum in one fit, whose workers wait between two phases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from pbrlib.curriculum.run import Launcher, PhaseJob
from pbrlib.errors import OutageError
from pbrlib.train.record.incidents import FAILURE
from ray_jobs.fit.fit import MakeTrainer, explain_retries, launch_for_command, launch_on_ray
from ray_jobs.fit.relay import start_relay
from ray_jobs.fit.trainer import ABORT_S

_LOOK_S = 0.5
"""Seconds between two looks whether a fit is still there while its phase trains."""

_END_S = 60.0
"""Seconds that the end of a fit may take whose workers have nothing left to train."""


@contextmanager
def shared_fit(phases: Sequence[str]) -> Iterator[Launcher]:
    """Launch the phases of a curriculum in the block, all in one fit where nothing forbids it.

    A phase for which another attempt has to be launched, after a failure in its start or a damaged
    checkpoint, begins another fit, and the phases after it follow there.
    """
    if len(phases) == 1:
        yield launch_for_command
        return
    fit = SharedFit()
    try:
        yield fit.launch
    except KeyboardInterrupt:
        fit.abort()
        raise
    finally:
        fit.end()


class SharedFit:
    """Launches the phases of a curriculum one after the other in one fit; not for two threads."""

    def __init__(self) -> None:
        self._fit: _RunningFit | None = None

    def launch(self, job: PhaseJob) -> Path:
        """Train a phase to its end, and return its best checkpoint; raises as ``launch_for_command`` does."""
        return explain_retries(job, lambda: launch_on_ray(job, run=self.run))

    def end(self) -> None:
        """Let the workers end, and wait for the end of their fit."""
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.end()

    def abort(self) -> None:
        """End the fit now; what its workers have trained since their last checkpoint is lost."""
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.abort()

    def run(self, job: PhaseJob, make: MakeTrainer) -> None:
        """Train a job in the fit that waits, or in a new one."""
        if self._fit is None or not self._fit.is_running():
            self._fit = _RunningFit(make)
        try:
            self._fit.train(job)
        except Exception:
            self.end()
            raise


class _RunningFit:
    """A fit in a thread of its own."""

    def __init__(self, make: MakeTrainer) -> None:
        self._relay = start_relay()
        self._trainer = make(self._relay)
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def is_running(self) -> bool:
        """Return whether the fit has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def train(self, job: PhaseJob) -> None:
        """Give the workers a job, and wait until all have finished it.

        Raises:
            Exception: The fit ended with it.
            OutageError: The fit ended without an error, and the phase is unfinished.
        """
        number = ray.get(self._relay.add.remote(ray.cloudpickle.dumps(job)))  # type: ignore[no-untyped-call]
        if self._thread is None:
            self._thread = threading.Thread(target=self._fit, name=f"fit of {job.title}", daemon=True)
            self._thread.start()
        finished = self._relay.wait_until_finished.remote(number)
        while not ray.wait([finished], timeout=_LOOK_S)[0]:
            if not self.is_running():
                break
        if ray.wait([finished], timeout=0)[0]:
            ray.get(finished)
            return
        if self._error is not None:
            raise self._error
        if not (job.directory / FAILURE).exists():
            raise OutageError(
                f"{job.title}: its workers ended before the phase did. The same command resumes."
            )

    def end(self) -> None:
        """Tell the workers that no job follows, and wait until the fit has ended."""
        with suppress(RayError):
            ray.get(self._relay.close.remote())
        if self._thread is not None:
            self._thread.join(timeout=_END_S)
        if self.is_running():
            self.abort()
        ray.kill(self._relay)

    def abort(self) -> None:
        """End the workers and the controller, in order if the controller answers."""
        controller: Any = None
        with suppress(RayError):
            controller = ray.get(self._relay.controller.remote(), timeout=ABORT_S)
        if controller is not None:
            with suppress(RayError):
                ray.get(controller.abort.remote(), timeout=ABORT_S)
            ray.kill(controller)
        if self._thread is not None:
            self._thread.join(timeout=ABORT_S)
        ray.kill(self._relay)

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self._error = error

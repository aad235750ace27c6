"""TorchTrainer as commands want it, and its process group as dead workers want it."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError
from ray.train.torch import TorchConfig, TorchTrainer

from pbrlib.errors import first_line
from ray_jobs.cluster.session import is_local
from ray_jobs.fit.starting import PlaceOfFailedStart
from ray_jobs.rayinternals import PlacementGroupCleanerCallback, torch_backend

ABORT_S = 15.0
"""How long a fit that is interrupted may take to end its workers in order."""

_log = logging.getLogger(__name__)


class ProcessGroupConfig(TorchConfig):
    """A TorchConfig whose process group may be left by a worker that Ray's memory monitor has ended."""

    @property
    def backend_cls(self) -> Any:
        """How a process group begins and ends."""
        return _ProcessGroup


class _ProcessGroup(torch_backend()):  # type: ignore[misc]
    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Asks every worker to leave the group; the controller knows that dead ones do not answer.

        But of one without memory it takes the answer for an error of its own, which ends the fit and leaves
        the place of its workers taken (Ray 2.60).
        """
        try:
            super().on_shutdown(worker_group, backend_config)
        except OutOfMemoryError as error:
            _log.warning("the process group was not left in order: %s", first_line(error))


class Trainer(TorchTrainer):
    """A TorchTrainer that ends with Ctrl-C, and gives back the place of workers that failed to start.

    In a local cluster it starts no PlacementGroupCleaner, which gives the workers' place back when the
    controller of a fit is killed. Whether that one lives it asks the state API, at the address that the
    machine's last ``ray start`` has left in a file: never a local cluster's. So it asks another cluster, or
    one that is gone, and every fit waits 12 s for it at its end. A local cluster ends with its command, and
    its places with it.
    """

    def fit(self) -> Any:
        """Trains, as TorchTrainer does. Ctrl-C is a KeyboardInterrupt, as everywhere else."""
        if threading.current_thread() is not threading.main_thread():
            return super().fit()
        handler = signal.getsignal(signal.SIGINT)
        try:
            return super().fit()
        finally:
            signal.signal(signal.SIGINT, handler)

    def _register_sigint_handler(self, controller: Any) -> None:
        """Ctrl-C ends the controller in order, and by force where it does not answer.

        It hears nothing while it looks for a place, and Ray's own handler waits for it without a limit.
        """

        def on_sigint(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the second time at once
            with suppress(RayError):
                ray.get(controller.abort.remote(), timeout=ABORT_S)
            ray.kill(controller)
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, on_sigint)

    def _create_default_callbacks(self) -> list[Any]:
        # Ray types TorchTrainer as that of its first version, which has no callbacks.
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        if is_local():
            callbacks = [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback)]
        return [PlaceOfFailedStart(), *callbacks]

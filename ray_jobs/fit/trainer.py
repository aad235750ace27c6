"""A TorchTrainer that handles Ctrl-C, failed starts and workers that died without memory."""

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
    """A TorchConfig whose process group can end after Ray's memory monitor killed a worker."""

    @property
    def backend_cls(self) -> Any:
        """The class that begins and ends the process group."""
        return _ProcessGroup


class _ProcessGroup(torch_backend()):  # type: ignore[misc]
    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Have every worker leave the group, and ignore the error of one that ran out of memory.

        Ray 2.60 ignores the errors of other dead workers. This one would end the fit, and the resources of
        its workers would stay reserved.
        """
        try:
            super().on_shutdown(worker_group, backend_config)
        except OutOfMemoryError as error:
            _log.warning("the process group was not left in order: %s", first_line(error))


class Trainer(TorchTrainer):
    """A TorchTrainer that ends with Ctrl-C, and frees the resources of workers that failed to start.

    In a local cluster it starts no PlacementGroupCleaner, an actor that frees the resources of a fit whose
    controller was killed. That actor asks the state API at the address that the machine's last ``ray start``
    wrote to a file, which is never a local cluster's, and every fit would wait 12 s for it at its end. A
    local cluster ends with its command, and its resources with it.
    """

    def fit(self) -> Any:
        """Train as TorchTrainer does; Ctrl-C raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            return super().fit()
        handler = signal.getsignal(signal.SIGINT)
        try:
            return super().fit()
        finally:
            signal.signal(signal.SIGINT, handler)

    def _register_sigint_handler(self, controller: Any) -> None:
        """Have Ctrl-C end the controller in order, and by force if it does not answer.

        A controller does not answer while it searches for resources, and Ray's handler waits without a limit.
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

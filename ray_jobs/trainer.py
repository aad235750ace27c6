"""TorchTrainer as a local cluster wants it, and its process group as dead workers want it."""

from __future__ import annotations

import logging
from typing import Any

from ray.exceptions import OutOfMemoryError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from pbrlib.errors import first_line
from ray_jobs.session import is_local

_log = logging.getLogger(__name__)


class ProcessGroupConfig(TorchConfig):
    """A TorchConfig whose process group may be left by a worker that Ray's memory monitor has ended."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """How a process group begins and ends."""
        return _ProcessGroup


class _ProcessGroup(_TorchBackend):
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
    """A TorchTrainer that starts no PlacementGroupCleaner in a local cluster.

    The cleaner gives the workers' place back when the controller of a fit is killed. Whether that one lives
    it asks the state API, at the address that the machine's last ``ray start`` has left in a file: never a
    local cluster's. So it asks another cluster, or one that is gone, and every fit waits 12 s for it at its
    end. A local cluster ends with its command, and its places with it.
    """

    def _create_default_callbacks(self) -> list[Any]:
        # Ray types TorchTrainer as that of its first version, which has no callbacks.
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        if not is_local():
            return callbacks
        return [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback)]

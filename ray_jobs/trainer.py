"""TorchTrainer as a local cluster wants it."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from ray_jobs.session import is_local


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

"""What a trial's fit tells the sweep, and how the sweep ends it.

The controller of the fit, a process of its own, imports this module, so it imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.placement_group import PlacementGroup


class ToTheSweep(TuneReportCallback):
    """Passes the reports of a fit on, with a handle of what would outlive a trial that is stopped."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Runs in the controller of the fit, an actor."""
        own = ray.get_runtime_context().current_actor
        controller = ray.cloudpickle.dumps(own).hex()  # type: ignore[no-untyped-call]
        super().after_report(run_context, [{**metrics[0], "controller": controller}], checkpoint)


def release(report: Mapping[str, Any]) -> None:
    """Ends the fit of a trial whose process Tune ends, and gives its place back, by what it reported last.

    A local cluster has no cleaner (``trainer.Trainer``), and on others it asks a state API that need not run.
    """
    if "controller" not in report:
        return
    # First the controller: it would start its workers anew in another place.
    ray.kill(ray.cloudpickle.loads(bytes.fromhex(report["controller"])))
    group = ray.PlacementGroupID(bytes.fromhex(report["placement_group"]))
    ray.util.remove_placement_group(PlacementGroup(group))

"""What a trial's fit tells the sweep, and how the sweep ends it.

The controller of the fit, a process of its own, imports this module, so it imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.placement_group import PlacementGroup

from pbrlib.data.storage import write_bytes_atomic
from pbrlib.runs.jsonfile import shown

PLACE = "place.json"
"""In a phase's folder: the placement group of its newest fit."""


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
    if "controller" in report:
        # First the controller: it would start its workers anew in another place.
        ray.kill(ray.cloudpickle.loads(bytes.fromhex(report["controller"])))
    if "placement_group" in report:
        group = ray.PlacementGroupID(bytes.fromhex(report["placement_group"]))
        ray.util.remove_placement_group(PlacementGroup(group))


def place() -> dict[str, str]:
    """What the worker of a fit holds, as its reports name it."""
    group = ray.util.get_current_placement_group()
    return {} if group is None else {"placement_group": group.id.hex()}


def leave_place(directory: Path) -> None:
    """Writes into a phase's folder what its fit holds: a process may be killed before its first report."""
    write_bytes_atomic(directory / PLACE, json.dumps(place()).encode())


def left_place(runs: Path) -> dict[str, Any]:
    """What the newest fit in a trial's runs has left of its place."""
    files = sorted(runs.glob(f"*/*/{PLACE}"), key=lambda file: file.stat().st_mtime)
    return shown(files[-1]) if files else {}

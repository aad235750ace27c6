"""What a fit tells of itself and of what it holds, and how a sweep ends it.

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

from pbrlib import storage
from pbrlib.runs.jsonfile import read_leniently
from pbrlib.train.runtimespec import Selection

PLACE = "place.json"
"""In a phase's folder: the placement group of its newest fit."""

VALIDATED = "validated"
"""In a report: whether it has figures, or is one of the checkpoints that are written when a node will go."""


def figures_of(metrics: Mapping[str, float], selection: Selection) -> dict[str, object]:
    """The figures of a checkpoint as a sweep and Ray's record take them: all finite, the worst for none."""
    return {**metrics, selection.metric: selection.comparable(metrics), VALIDATED: bool(metrics)}


class SweepReportCallback(TuneReportCallback):
    """Passes the reports of a fit on, with a handle of what would outlive a trial that is stopped."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Runs in the controller of the fit, an actor; a report without figures is none of a trial's."""
        if not metrics[0][VALIDATED]:
            return
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


def placement() -> dict[str, str]:
    """What the worker of a fit holds, as its reports name it."""
    group = ray.util.get_current_placement_group()
    return {} if group is None else {"placement_group": group.id.hex()}


def write_placement(directory: Path) -> None:
    """Writes into a phase's folder what its fit holds: a process may be killed before its first report."""
    storage.write_atomic(directory / PLACE, json.dumps(placement()))


def read_placement(runs: Path) -> dict[str, Any]:
    """What the newest fit in a trial's runs has left of its place.

    Nothing else: ``release`` unpickles what a report says of a controller, and a file might say anything.
    """
    files = sorted(runs.glob(f"*/*/{PLACE}"), key=lambda file: file.stat().st_mtime)
    left = read_leniently(files[-1]) if files else {}
    name = "placement_group"
    return {name: left[name]} if name in left else {}

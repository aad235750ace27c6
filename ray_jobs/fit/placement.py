"""Report the metrics and the placement group of a trial's fit to its sweep, and end such a fit.

The controller of the fit, a separate process, imports this module, so the module imports no torch.
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
"""The file in a phase's folder that names the placement group of its newest fit."""

PHASE = "phase_folder"
"""In a report: the folder of the phase that a worker trains."""

VALIDATED = "validated"
"""In a report: whether it has figures, or is one of the checkpoints that are written when a node will go."""


def figures_of(metrics: Mapping[str, float], selection: Selection) -> dict[str, object]:
    """Return the metrics of a checkpoint for a report: all finite, the worst value for a missing one."""
    return {**metrics, selection.metric: selection.comparable(metrics), VALIDATED: bool(metrics)}


class SweepReportCallback(TuneReportCallback):
    """Report metrics to the sweep, with a handle of the fit's controller, which outlives a stopped trial."""

    _step = 0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Report metrics from the controller of the fit; skip a report that has none or repeats a step."""
        if not metrics[0][VALIDATED] or metrics[0]["step"] <= self._step:
            return
        self._step = metrics[0]["step"]
        own = ray.get_runtime_context().current_actor
        controller = ray.cloudpickle.dumps(own).hex()  # type: ignore[no-untyped-call]
        super().after_report(run_context, [{**metrics[0], "controller": controller}], checkpoint)


def release(report: Mapping[str, Any]) -> None:
    """End the fit of a stopped trial and remove its placement group, both named in its last report.

    A local cluster has no cleaner (``trainer.Trainer``), and on others it asks a state API that need not run.
    """
    if "controller" in report:
        # First the controller: it would start its workers again in another placement group.
        ray.kill(ray.cloudpickle.loads(bytes.fromhex(report["controller"])))
    if "placement_group" in report:
        group = ray.PlacementGroupID(bytes.fromhex(report["placement_group"]))
        ray.util.remove_placement_group(PlacementGroup(group))


def placement() -> dict[str, str]:
    """Return the placement group of this worker's fit as an entry of its reports."""
    group = ray.util.get_current_placement_group()
    return {} if group is None else {"placement_group": group.id.hex()}


def write_placement(directory: Path) -> None:
    """Write the fit's placement group to the phase's folder: a fit may be killed before its first report."""
    storage.write_atomic(directory / PLACE, json.dumps(placement()))


def read_placement(runs: Path) -> dict[str, Any]:
    """Return the placement group that the newest fit in a trial's runs has written.

    No other key is returned: ``release`` unpickles the controller entry, and a file is not to be trusted.
    """
    files = sorted(runs.glob(f"*/*/{PLACE}"), key=lambda file: file.stat().st_mtime)
    left = read_leniently(files[-1]) if files else {}
    name = "placement_group"
    return {name: left[name]} if name in left else {}

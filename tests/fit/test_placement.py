"""The reports and the placement group of a trial's fit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from pbrlib.train.runtimespec import Selection
from ray_jobs.fit.placement import PLACE, SweepReportCallback, figures_of, read_placement


def test_a_sweep_hears_of_no_checkpoint_without_figures() -> None:
    select = Selection(metric="l1", mode="min")
    report: dict[str, Any] = figures_of({}, select)
    # Passing it on would ask Ray, which does not run here, for the controller's handle.
    SweepReportCallback.after_report(object(), None, [report], None)  # type: ignore[arg-type]


def test_only_the_placement_group_is_read_from_the_file_of_a_fit(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("code of a file was run",)

    folder = tmp_path / "albedo" / "A1-0"
    folder.mkdir(parents=True)
    left = {"placement_group": "ab" * 18, "controller": pickle.dumps(Bomb()).hex()}
    (folder / PLACE).write_text(json.dumps(left))
    assert read_placement(tmp_path) == {"placement_group": "ab" * 18}

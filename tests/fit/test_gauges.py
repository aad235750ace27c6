"""The gauges of a phase do not outlast it in a process that trains the next one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ray_jobs.fit import gauges


def test_a_finished_phase_leaves_no_value_in_any_gauge(monkeypatch: pytest.MonkeyPatch) -> None:
    served: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    class Gauge:
        def __init__(self, name: str, description: str, **given: Any) -> None:
            self.name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            served[self.name, frozenset(tags.items())] = value

    monkeypatch.setattr(gauges, "Gauge", Gauge)
    first, second = (gauges.PhaseGauges(curriculum="albedo", phase=phase, run="0") for phase in ("A1", "A2"))
    values = {
        "total_steps": 8,
        "step_s": 0.5,
        "train/loss": 1.0,
        "train/l1": 0.3,
        "gradient_norm": 2.0,
        "val/all/albedo/l1": 0.2,
    }
    first.set(values, step=2)
    first.set({"step_s": 0.4}, step=4)
    assert sorted(served.values()) == [0.2, 0.25, 0.3, 0.4, 1.0, 2.0]
    first.clear()
    second.set(values, step=4)
    left = {
        phase: [value for (_, tags), value in served.items() if ("phase", phase) in tags]
        for phase in ("A1", "A2")
    }
    assert len(left["A1"]) == 6 and all(map(math.isnan, left["A1"]))
    assert sorted(left["A2"]) == [0.2, 0.3, 0.5, 0.5, 1.0, 2.0]

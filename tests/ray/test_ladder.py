"""The smoke ladder from its sources to its evaluation, whole, as a user runs it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.config.load import load_ladder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3600)]

LADDER = Path("configs/smoke/ladder.yaml")
SETTINGS = "generated:count=35,size=128"


def pbr(*words: str | Path) -> str:
    """The output of a ``pbr`` command that succeeds, with a Ray of its own where it needs one."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "ray_jobs", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(value: Any) -> Iterator[float]:
    """Yield every number in JSON at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from numbers(entry)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_a_complete_ladder_trains_on_two_workers_and_is_evaluated(tmp_path: Path) -> None:
    shards, runs = tmp_path / "shards", tmp_path / "runs"
    sources = (f"{SETTINGS},seed=1,name=skyrim,old=true", f"{SETTINGS},seed=2,name=matsynth")
    pbr("prepare", *sources, "--val-share", "0.2", "--out", shards)
    places = ("--data", shards, "--runtime", "configs/runtime/cpu.yaml")
    plan = json.loads(pbr("plan", LADDER, *places, "--json"))["families"]

    said = pbr("train", LADDER, *places, "--runs", runs)
    assert said.count(": finished,") == 21
    for curriculum in load_ladder([LADDER]).curricula:
        record = json.loads((runs / curriculum.name / "run.json").read_text())["phases"]
        assert list(record) == list(curriculum.phases)
        for name, done in record.items():
            planned = plan[curriculum.name]["phases"][name]
            assert all(map(math.isfinite, numbers(done["metrics"]))), f"{curriculum.name} {name}"
            assert len(done["history"]) == planned["epochs"]
            assert done["history"][-1]["step"] == planned["total_steps"]
            gate = done["gate"]
            assert (gate is None) == (planned["gate"] is None)
            assert gate is None or (gate["passed"] and len(gate["figures"]) == 2)

    assert pbr("train", LADDER, *places, "--runs", runs).count(": finished before,") == 21

    pbr("evaluate", runs, "--data", shards, "--out", tmp_path / "evaluation")
    evaluation = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    found = list(numbers(evaluation))
    assert len(found) > 100
    assert all(map(math.isfinite, found))
    assert list((tmp_path / "evaluation").glob("contact-*.png"))

"""The smoke ladder, cut to two or three steps a phase, passes through every kind of phase of the recipe."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from pbrlib.curriculum.config.load import load_ladder
from pbrlib.data.shards.prepare import with_relief
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.inference.chain import Chain
from ray_jobs.cli import main

LADDER = Path("configs/smoke/ladder.yaml")
GATED = {"segformer": "S1", "albedo": "A2", "roughness": "M1", "metallic": "M1", "height": "P1", "ao": "P1"}


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Old textures with a diffuse of their own as skyrim, modern ones as matsynth; a third for validation."""
    root = tmp_path_factory.mktemp("two")
    sources = [
        GeneratedSource(count=9, size=128, seed=1, name="skyrim", old=True),
        GeneratedSource(count=9, size=128, seed=2, name="matsynth"),
    ]
    materials = [with_relief(source.load(entry)) for source in sources for entry in source.entries()]
    held_out = {material.id for number, material in enumerate(materials) if number % 9 in (2, 4)}
    info, rows = write_shard(
        root / shard_name(version=1, ordinal=0),
        materials,
        split_for=lambda material: "val" if material.id in held_out else "train",
    )
    publish(root, shards=[info], rows=[rows], previous=None)
    return root


def cut() -> list[str]:
    """Overrides that leave two steps of a phase, three where one of them is the warm-up's epoch."""
    words = []
    for curriculum in load_ladder([LADDER]).curricula:
        for name, phase in curriculum.phases.items():
            address = f"{curriculum.name}.phases.{name}"
            epochs = 3 if phase.schedule.kind == "warmup_cosine" else 2
            words += [f"{address}.{key}" for key in (f"epochs={epochs}", "steps_per_epoch=1")]
            words.append(f"{address}.segment_steps={epochs}")
    return [part for word in words for part in ("--set", word)]


def train(data: Path, runs: Path) -> Result:
    places = ("--data", str(data), "--runs", str(runs), "--local")
    return CliRunner().invoke(main, ["train", str(LADDER), *places, *cut()])


def test_the_ladder_climbs_through_every_phase_and_then_rests(two_sources: Path, tmp_path: Path) -> None:
    assert set(ShardSet.open(two_sources).manifest.sources) == {"skyrim", "matsynth"}
    first = train(two_sources, tmp_path)
    assert first.exit_code == 0, first.output
    for curriculum in load_ladder([LADDER]).curricula:
        record = json.loads((tmp_path / curriculum.name / "run.json").read_text())["phases"]
        assert list(record) == list(curriculum.phases)
        for name, done in record.items():
            _check_phase(curriculum.name, name, done)
            assert (tmp_path / curriculum.name / done["checkpoint"] / "state.json").exists()
    assert "roughness/M1: finished" in first.output
    (start,) = (tmp_path / "roughness").glob("M0-*/metrics.jsonl")
    assert json.loads(start.read_text().splitlines()[0])["kind"] == "warm_start"
    lines = [line for line in first.output.splitlines() if ": training into" in line]
    order = list(dict.fromkeys(line.partition("/")[0] for line in lines))
    assert order == ["segformer", "albedo", "roughness", "metallic", "height", "ao"]

    _check_overview(tmp_path, state="finished")
    model = tmp_path / "model"
    assert "Model: " in first.output
    assert set(json.loads((model / "model.json").read_text())["networks"]) == {"segmentation", *GATED} - {
        "segformer"
    }
    chain = Chain.open(model, device=torch.device("cpu"))
    assert set(chain.maps) == {"roughness", "metallic", "height", "ao"}
    weights = (model / "SHA256SUMS").read_bytes()

    second = train(two_sources, tmp_path)
    assert second.exit_code == 0, second.output
    _check_overview(tmp_path, state="finished before")
    assert "of these very networks and data already" in second.output
    assert (model / "SHA256SUMS").read_bytes() == weights
    assert "training into" not in second.output
    assert second.output.count(": finished before,") == 21


def _check_overview(runs: Path, *, state: str) -> None:
    overview = json.loads((runs / "ladder.json").read_text())
    assert (overview["state"], overview["phases_finished"], overview["share_of_samples"]) == (
        "finished",
        21,
        1.0,
    )
    assert {phase["state"] for phase in overview["phases"]} == {state}
    for phase in overview["phases"]:
        assert (runs / phase["checkpoint"] / "state.json").exists()
        assert math.isfinite(phase["best"])


def _check_phase(family: str, phase: str, done: dict[str, Any]) -> None:
    error = "segmentation/miou" if family == "segformer" else f"{family}/l1"
    for source in ("all", "skyrim", "matsynth"):
        assert math.isfinite(done["metrics"][f"val/{source}/{error}"]), f"{family} {phase} {source}"
    gate = done["gate"]
    assert (gate is not None) == (GATED[family] == phase)
    if gate is not None:
        assert gate["passed"]
        assert [figure["source"] for figure in gate["figures"]] == ["skyrim", "matsynth"]

"""Gates as users meet them: `pbr train` stops, says why, and can be told to go on."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.generated import GeneratedSource
from ray_jobs.cli import main
from tests.conftest import SEGFORMER


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve materials under two names of sources, each with some for validation."""
    return write_set(tmp_path_factory.mktemp("two"), held_out=("skyrim", "matsynth"))


def write_set(root: Path, *, held_out: Collection[str]) -> Path:
    """Write twelve materials of two sources; two of each source in ``held_out`` are for validation."""
    source = GeneratedSource(count=12, size=64, seed=5)
    named = [
        replace(source.load(entry), source="skyrim" if number % 2 else "matsynth")
        for number, entry in enumerate(source.entries())
    ]
    ids = {material.id for material in named[:4] if material.source in held_out}
    info, rows = write_shard(
        root / shard_name(version=1, ordinal=0),
        named,
        split_for=lambda material: "val" if material.id in ids else "train",
    )
    publish(root, shards=[info], rows=[rows], previous=None)
    return root


def curriculum(*, ratio: float) -> str:
    first = SEGFORMER.replace("{generated: 1.0}", "{skyrim: 0.5, matsynth: 0.5}").replace(
        "steps_per_epoch: 2", "steps_per_epoch: 1"
    )
    phase = first[first.index("  S0:") :]
    second = phase.replace("S0:", "S1:\n    starts_from: S0").replace(
        "batch: 4", f"batch: 4\n    gate: {{ratios: {{skyrim: {ratio}, matsynth: 1000.0}}, window: 3}}"
    )
    third = phase.replace("S0:", "S2:\n    starts_from: S1")
    return first + second + third


def train(folder: Path, text: str, *, data: Path, more: tuple[str, ...] = ()) -> Result:
    file = folder / "segformer.yaml"
    file.write_text(text)
    places = ("--data", str(data), "--runs", str(folder / "runs"), "--local")
    return CliRunner().invoke(main, ["train", str(file), *places, *more])


def record(folder: Path) -> dict[str, dict[str, object]]:
    phases: dict[str, dict[str, object]] = json.loads(
        (folder / "runs" / "segformer" / "run.json").read_text()
    )["phases"]
    return phases


def test_the_ladder_stops_at_a_closed_gate_until_it_is_forced(two_sources: Path, tmp_path: Path) -> None:
    stopped = train(tmp_path, curriculum(ratio=1e-6), data=two_sources)
    assert stopped.exit_code == 3, stopped.output
    assert "segformer/S1: did not pass its gate against S0. 1 - mIoU, mean of the last 3" in stopped.output
    assert "skyrim failed: got" in stopped.output
    assert "matsynth passed: got" in stopped.output
    assert '--force "REASON"' in stopped.output
    assert "S2: training" not in stopped.output
    assert list(record(tmp_path)) == ["S0", "S1"]

    # Neither the same command nor one that begins behind the gate comes past it.
    for more in ((), ("--phases", "S2")):
        again = train(tmp_path, curriculum(ratio=1e-6), data=two_sources, more=more)
        assert again.exit_code == 3, again.output
        assert "S2: training into" not in again.output

    forced = train(tmp_path, curriculum(ratio=1e-6), data=two_sources, more=("--force", "toy data"))
    assert forced.exit_code == 0, forced.output
    assert "segformer/S1: finished before" in forced.output
    assert "forced past its gate: toy data" in forced.output
    assert list(record(tmp_path)) == ["S0", "S1", "S2"]
    gate = record(tmp_path)["S1"]["gate"]
    assert isinstance(gate, dict)
    assert gate["forced"] == "toy data"
    assert [figure["source"] for figure in gate["figures"]] == ["skyrim", "matsynth"]

    resumed = train(tmp_path, curriculum(ratio=1e-6), data=two_sources)
    assert resumed.exit_code == 0, resumed.output


def test_an_open_gate_lets_the_ladder_through(two_sources: Path, tmp_path: Path) -> None:
    done = train(tmp_path, curriculum(ratio=1000.0), data=two_sources)
    assert done.exit_code == 0, done.output
    assert "passed its gate" in done.output
    assert list(record(tmp_path)) == ["S0", "S1", "S2"]


def test_sources_are_validated_apart_and_together(two_sources: Path, tmp_path: Path) -> None:
    done = train(tmp_path, curriculum(ratio=1000.0), data=two_sources, more=("--phases", "S0"))
    assert done.exit_code == 0, done.output
    history = record(tmp_path)["S0"]["history"]
    assert isinstance(history, list)
    measured = history[-1]["metrics"]
    for source in ("all", "skyrim", "matsynth"):
        assert f"val/{source}/segmentation/miou" in measured
    assert sorted(ShardSet.open(two_sources).manifest.sources) == ["matsynth", "skyrim"]
    assert measured["val/skyrim/segmentation/miou"] != measured["val/matsynth/segmentation/miou"]


def test_a_gate_on_a_source_without_validation_textures_is_a_mistake_in_the_input(
    tmp_path: Path,
) -> None:
    data = write_set(tmp_path / "set", held_out=("matsynth",))
    refused = train(tmp_path, curriculum(ratio=1.0), data=data)
    assert refused.exit_code == 2
    assert "phases.S1.gate.ratios.skyrim: got skyrim, without validation textures" in refused.output
    assert not (tmp_path / "runs").exists()


def test_force_wants_a_reason(two_sources: Path, tmp_path: Path) -> None:
    refused = train(tmp_path, curriculum(ratio=1.0), data=two_sources, more=("--force", " "))
    assert refused.exit_code == 2
    assert "--force: got no reason; expected one." in refused.output

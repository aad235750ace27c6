"""``pbr train`` with a phase that is finished but whose checkpoint is missing, without Ray."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pbrlib.train.record.rundirectory import RunDirectory
from ray_jobs.cli import main
from tests.conftest import ALBEDO, SEGFORMER

TWO = SEGFORMER + "  S1:\n    starts_from: S0\n" + SEGFORMER.partition("  S0:\n")[2]
"""A segmentation of two phases, which are alike but for where they begin."""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.yaml" for name in ("segformer", "albedo")}
    found["segformer"].write_text(TWO)
    found["albedo"].write_text(ALBEDO)
    return found


@pytest.fixture(scope="module")
def first(shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    file = folder / "segformer.yaml"
    file.write_text(TWO)
    done = train(file, shards=shard_folder, runs=folder / "runs")
    assert done.exit_code == 0, done.output
    return folder / "runs"


@pytest.fixture
def runs(first: Path, tmp_path: Path) -> Path:
    """Both phases of a segmentation, finished; a copy for each test."""
    return Path(shutil.copytree(first, tmp_path / "runs"))


def train(*words: str | Path, shards: Path, runs: Path) -> Result:
    places = ("--data", str(shards), "--runs", str(runs), "--local")
    return CliRunner().invoke(main, ["train", *map(str, words), *places])


def lose(runs: Path, phase: str) -> Path:
    """Removes the folder of a finished phase; returns its best checkpoint that was."""
    folder, _ = RunDirectory(runs, name="segformer").best(phase)
    shutil.rmtree(folder.parent)
    return folder


def is_there(runs: Path, phase: str) -> bool:
    known = json.loads((runs / "segformer" / "run.json").read_text())["phases"]
    return (runs / "segformer" / known[phase]["checkpoint"] / "state.json").is_file()


def test_the_last_phase_is_trained_again_and_this_is_reported(
    files: dict[str, Path], runs: Path, shard_folder: Path
) -> None:
    gone = lose(runs, "S1")
    again = train(files["segformer"], shards=shard_folder, runs=runs)
    assert again.exit_code == 0, again.output
    assert f"segformer/S1: its best checkpoint {gone} is gone; it is trained again" in again.output
    assert "segformer/S1: training into" in again.output
    assert "segformer/S0: finished before" in again.output and "S1: finished before" not in again.output
    assert is_there(runs, "S0") and is_there(runs, "S1")


def test_an_earlier_phase_that_nothing_begins_from_any_more_is_left_and_said_to_be_gone(
    files: dict[str, Path], runs: Path, shard_folder: Path
) -> None:
    gone, _ = RunDirectory(runs, name="segformer").best("S0")
    shutil.rmtree(gone)
    again = train(files["segformer"], shards=shard_folder, runs=runs)
    assert again.exit_code == 0, again.output
    assert f"segformer/S0: its best checkpoint {gone} is gone, and no remaining phase" in again.output
    assert "training into" not in again.output
    assert is_there(runs, "S1") and not is_there(runs, "S0")
    shown = CliRunner().invoke(main, ["runs", "show", str(runs / "segformer")])
    assert "S0: its best checkpoint" in shown.output and "does not exist any more" in shown.output


def test_a_phase_and_what_it_began_from_are_both_trained_again(
    files: dict[str, Path], runs: Path, shard_folder: Path
) -> None:
    for phase in ("S0", "S1"):
        lose(runs, phase)
    again = train(files["segformer"], shards=shard_folder, runs=runs)
    assert again.exit_code == 0, again.output
    assert again.output.count("training into") == 2
    assert is_there(runs, "S0") and is_there(runs, "S1")


def test_a_phase_asked_for_alone_names_what_it_begins_from_and_the_advice_helps(
    files: dict[str, Path], runs: Path, shard_folder: Path
) -> None:
    gone = lose(runs, "S0")
    lose(runs, "S1")
    refused = train(files["segformer"], "--phases", "S1", shards=shard_folder, runs=runs)
    assert refused.exit_code == 2
    assert f"{gone}: got no checkpoint; expected the donor of phases.S1." in refused.output
    assert "Train S0 again with --phases S0." in refused.output
    assert train(files["segformer"], "--phases", "S0", shards=shard_folder, runs=runs).exit_code == 0
    assert train(files["segformer"], "--phases", "S1", shards=shard_folder, runs=runs).exit_code == 0
    assert is_there(runs, "S0") and is_there(runs, "S1")


def test_a_donor_that_is_gone_is_found_before_anything_starts_and_the_advice_helps(
    files: dict[str, Path], runs: Path, shard_folder: Path
) -> None:
    lose(runs, "S1")
    refused = train(files["albedo"], shards=shard_folder, runs=runs)
    assert refused.exit_code == 2
    assert "pbr train <curriculum of segformer> --phases S1" in refused.output
    assert not (runs / "albedo").exists()
    together = train(*files.values(), shards=shard_folder, runs=runs)
    assert together.exit_code == 0, together.output
    assert "segformer/S1: training into" in together.output and "albedo/A1: finished" in together.output

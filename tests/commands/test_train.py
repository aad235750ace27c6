from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pbrlib import storage
from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.train.record import trackers
from pbrlib.train.record.rundirectory import RunDirectory
from ray_jobs.cli import main
from tests.conftest import ALBEDO, SEGFORMER


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    texts = {"albedo": ALBEDO, "segformer": SEGFORMER}
    found = {name: tmp_path / f"{name}.yaml" for name in texts}
    for name, path in found.items():
        path.write_text(texts[name])
    return found


def train(*files: Path, shards: Path, runs: Path, more: tuple[str, ...] = ()) -> Result:
    places = ("--data", str(shards), "--runs", str(runs))
    return CliRunner().invoke(main, ["train", *map(str, files), *places, "--local", *more])


def test_curricula_train_donors_first_and_a_second_time_not_at_all(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    first = train(files["albedo"], files["segformer"], shards=shard_folder, runs=runs)
    assert first.exit_code == 0, first.output
    assert first.output.index("segformer/S0: finished") < first.output.index("albedo/A1: training")
    best = RunDirectory(runs, name="albedo").best()[0]
    stamp = (best / "state.json").stat().st_mtime_ns
    second = train(files["albedo"], files["segformer"], shards=shard_folder, runs=runs)
    assert second.exit_code == 0, second.output
    assert "albedo/A1: finished before" in second.output
    assert (best / "state.json").stat().st_mtime_ns == stamp


def test_the_resolved_curriculum_lies_in_the_run_directory_with_its_overrides(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path
) -> None:
    override = ("--set", "phases.S0.steps_per_epoch=1")
    done = train(files["segformer"], shards=shard_folder, runs=tmp_path / "runs", more=override)
    assert done.exit_code == 0, done.output
    resolved = load_curriculum(tmp_path / "runs" / "segformer" / "curriculum.yaml")
    assert resolved == load_curriculum(files["segformer"], overrides=["phases.S0.steps_per_epoch=1"])
    assert resolved.phases["S0"].steps_per_epoch == 1


def test_an_edited_phase_is_a_new_one(files: dict[str, Path], shard_folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    train(files["segformer"], shards=shard_folder, runs=runs)
    edited = train(
        files["segformer"], shards=shard_folder, runs=runs, more=("--set", "phases.S0.optimizer.lr=2e-3")
    )
    assert "segformer/S0: training into" in edited.output
    assert len(list((runs / "segformer").glob("S0-*"))) == 2


def test_overrides_of_several_curricula_begin_with_the_name_of_one(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    refused = train(*files.values(), shards=shard_folder, runs=runs, more=("--set", "seed=1"))
    assert refused.exit_code == 2
    assert "--set seed: got seed; expected the name of a curriculum first" in refused.output
    assert not runs.exists()
    more = ("--set", "albedo.seed=1", "--set", "albedo.phases.A1.epochs=1", "--phases", "S0")
    done = train(*files.values(), shards=shard_folder, runs=runs, more=more)
    assert done.exit_code == 0, done.output
    assert not (runs / "albedo").exists(), "a curriculum without the phases that are asked for is left out"
    more = ("--set", "albedo.seed=1", "--set", "albedo.phases.A1.epochs=1")
    done = train(*files.values(), shards=shard_folder, runs=runs, more=more)
    assert done.exit_code == 0, done.output
    assert "segformer/S0: finished before" in done.output
    assert load_curriculum(runs / "albedo" / "curriculum.yaml").seed == 1


def test_an_unknown_phase_range_names_the_phases(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path
) -> None:
    refused = train(files["segformer"], shards=shard_folder, runs=tmp_path, more=("--phases", "S0..S9"))
    assert refused.exit_code == 2
    assert "--phases: got 'S9'; expected a phase. Known: S0." in refused.output


def test_missing_weights_of_lpips_are_found_before_anything_starts(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path
) -> None:
    text = ALBEDO.replace("ms_ssim: 0.15", "lpips: {weight: 0.05, backbone: none.pth}")
    files["albedo"].write_text(text)
    refused = train(*files.values(), shards=shard_folder, runs=tmp_path / "runs")
    assert refused.exit_code == 2
    assert "phases.A1.loss.lpips.backbone: got none.pth, which does not exist;" in refused.output
    assert not (tmp_path / "runs").exists()
    allowed = train(*files.values(), shards=shard_folder, runs=tmp_path / "runs", more=("--phases", "S0"))
    assert allowed.exit_code == 0, allowed.output


def test_profile_writes_a_trace_to_the_folder_of_the_phase_and_reports_what_a_cpu_lacks(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path
) -> None:
    more = ("--profile", "1", "--set", "phases.S0.steps_per_epoch=5")
    done = train(files["segformer"], shards=shard_folder, runs=tmp_path / "runs", more=more)
    assert done.exit_code == 0, done.output
    assert "a snapshot of memory is a GPU's" in done.output
    assert [file.name for file in tmp_path.rglob("profile/*")] == ["rank0-steps-4-4.trace.json.gz"]


def test_a_tracker_that_is_not_installed_is_found_before_anything_starts(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "runtime.yaml"
    runtime.write_text("trackers: [wandb]\n")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    refused = train(
        files["segformer"], shards=shard_folder, runs=tmp_path / "runs", more=("--runtime", str(runtime))
    )
    assert refused.exit_code == 2
    assert "pip install 'pbrlib[wandb]'" in refused.output
    assert not (tmp_path / "runs").exists()


def test_a_second_command_into_the_same_run_is_refused_and_another_run_beside_it_is_not(
    files: dict[str, Path], shard_folder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with storage.sole_writer(runs / "segformer", option="--runs"):
        refused = train(files["albedo"], files["segformer"], shards=shard_folder, runs=runs)
        assert refused.exit_code == 2
        assert f"process {os.getpid()} on" in refused.stderr and "another --runs" in refused.stderr
        assert RunDirectory(runs, name="segformer").phases() == {}
    with storage.sole_writer(runs / "height", option="--runs"):
        assert train(files["segformer"], shards=shard_folder, runs=runs).exit_code == 0


@pytest.mark.parametrize(("free", "code"), [(1, 2), (2**20, 0), (2**40, 0)])
def test_a_disk_too_small_for_checkpoints_is_reported_before_training(
    free: int,
    code: int,
    files: dict[str, Path],
    shard_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda folder: free)
    runs = tmp_path / "runs"
    done = train(files["segformer"], shards=shard_folder, runs=runs)
    assert done.exit_code == code, done.output
    assert ("for the largest checkpoint and its copy" in done.stderr) == (free == 1)
    assert ("the checkpoints of 1 phases take about" in done.stderr) == (free == 2**20)
    assert runs.exists() == (code == 0)
    again = train(files["segformer"], shards=shard_folder, runs=runs)
    assert code == 2 or "take about" not in again.stderr, "what is finished needs nothing more"

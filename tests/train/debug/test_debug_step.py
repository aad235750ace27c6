"""Tests that finite and not finite steps are replayed in one process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib import storage
from pbrlib.curriculum.config.load import dump_yaml, parse_curriculum
from pbrlib.curriculum.debugstep import ReplayableStep
from pbrlib.curriculum.run import PhaseJob, launch_local, resolve, run_phase
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.union import open_data
from pbrlib.errors import ConfigError, NumericsError, PbrError
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.checkpoint.state import STATE, checkpoints
from pbrlib.train.failedstep import FAILED_STEP, STEP, read_failed_step
from pbrlib.train.record.environment import ENVIRONMENT
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from tests.conftest import ALBEDO
from tests.damage import flip_tile
from tests.gloo import gloo_rank, run_ranks
from tests.hostile import JSON
from tests.train.test_ranks import GlooRuntime

WORLD = 2


def albedo(donors: Path, *, changes: Mapping[str, str] | None = None) -> Curriculum:
    """Dropout, several losses and the trained segmentation of another runs directory."""
    text = ALBEDO.replace("film_dropout: 0.0", "film_dropout: 0.3")
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    segformer = RunDirectory(donors, name="segformer").best()[0]
    return parse_curriculum(text.replace("  kind: albedo", f"  kind: albedo\n  segformer: {segformer}"))


def job_in(runs: Path, curriculum: Curriculum, *, shards: ShardSet, **runtime: Any) -> PhaseJob:
    spec = RuntimeSpec.model_validate({"workers": WORLD, **runtime})
    (runs / curriculum.name).mkdir(parents=True, exist_ok=True)
    (runs / curriculum.name / "curriculum.yaml").write_text(dump_yaml(curriculum))
    return resolve(curriculum, "A1", shards=shards, runs=runs, runtime=spec)


class Keeping(GlooRuntime):
    """A runtime that keeps every checkpoint."""

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        if checkpoint is not None:
            storage.move_folder(checkpoint, self.directory / f"checkpoint_{step:08d}", last=STATE)
        dist.barrier()


def rank_main(rank: int, jobs: Mapping[str, PhaseJob], folder: Path) -> None:
    with gloo_rank(rank, folder=folder, world=WORLD):
        said = {}
        for name, job in jobs.items():
            job.directory.mkdir(parents=True, exist_ok=True)
            runtime = Keeping(
                shards=open_data(job.data),
                directory=job.directory,
                selection=job.curriculum.phases[job.phase].select,
                device=torch.device("cpu"),
                rank=rank,
                world_size=WORLD,
            )
            try:
                run_phase(job, runtime)
            except NumericsError as error:
                said[name] = str(error)
        torch.save(said, folder / f"{rank}.pt")


WILD = {"{lr: 1.0e-3}": "{lr: 1.0e+30}"}
"""A learning rate with which one step makes the weights huge and the next one is not finite."""

CASES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "wild": (WILD, {}),
    "micro": ({**WILD, "batch: 6": "batch: 7"}, {"batch_per_device": 2}),
    "tame": ({"batch: 6": "batch: 7"}, {"batch_per_device": 2}),
}
"""Phases that are trained on two ranks: changes of the curriculum, and the runtime."""


@pytest.fixture(scope="module")
def trained(
    shard_folder: Path, trained_runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """Return the folder of the runs, and the errors of rank 0."""
    folder = tmp_path_factory.mktemp("debug")
    shards = ShardSet.open(shard_folder)
    jobs = {
        name: job_in(folder / name, albedo(trained_runs, changes=changes), shards=shards, **runtime)
        for name, (changes, runtime) in CASES.items()
    }
    run_ranks(rank_main, jobs, folder)
    said: dict[str, str] = torch.load(folder / "0.pt", weights_only=True)
    return folder, said


def asked(run: Path, *, step: int | None = None, data: Path | None = None) -> ReplayableStep:
    moved = None if data is None else DataSpec.from_location(data)
    return ReplayableStep(run, phase=None, step=step, data=moved, device=None)


@pytest.mark.parametrize("case", ["wild", "micro"])
def test_the_step_of_two_ranks_is_reproduced_in_one_process_bit_for_bit(
    trained: tuple[Path, dict[str, str]], case: str
) -> None:
    folder, said = trained
    run = folder / case / "albedo"
    question = asked(run)
    seen = question.replay()
    assert question.recorded is not None
    assert not seen.is_finite
    (turn,) = seen.turns
    assert turn.differences() == {}
    assert f"step {seen.step}:" in said[case]
    named = said[case].split("Samples: ")[1].split(". ")[0].split(", ")
    assert {one.id for one in turn.samples} == set(named)
    by_rank = [[one.id for one in turn.samples if one.rank == rank] for rank in range(WORLD)]
    assert by_rank == question.recorded.samples
    assert turn.layers, "a layer overflows"


def test_a_finite_step_is_replayed_from_a_checkpoint_through_the_steps_between(
    trained: tuple[Path, dict[str, str]],
) -> None:
    run = trained[0] / "tame" / "albedo"
    (folder,) = run.glob("A1-*")
    journal = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    at_8 = next(line for line in journal if line["kind"] == "step" and line["step"] == 8)
    assert asked(run, step=3).began_at == 0, "from the beginning, whose weights are seeds"
    question = asked(run, step=7)
    assert (question.began_at, question.world_size) == (4, 2)
    seen = question.replay()
    assert seen.is_finite
    (turn,) = seen.turns
    assert turn.figures["total"] == at_8["train/loss"], "the loss that two ranks had after three more steps"
    assert turn.figures["l1"] == at_8["train/l1"]


def test_the_stored_state_is_from_before_the_step(
    trained: tuple[Path, dict[str, str]],
) -> None:
    (folder,) = (trained[0] / "wild" / "albedo").glob("A1-*")
    assert checkpoints(folder) == [], "it is no checkpoint"
    record = read_failed_step(folder)
    assert record is not None
    assert record.step == 1
    kept = read_weights(folder / FAILED_STEP)
    running = [name for name in kept if "running" in name or "num_batches" in name]
    assert all(bool(kept[name].isfinite().all()) for name in kept if name not in running)


def test_the_command_reports_what_is_not_finite_and_exits_with_4(
    trained: tuple[Path, dict[str, str]],
) -> None:
    run = trained[0] / "wild" / "albedo"
    result = CliRunner().invoke(main, ["debug-step", str(run)])
    assert result.exit_code == 4, result.output
    for said in ("step 1, 2 ranks", "not finite", "bit for bit", "first layer", "group ", "diffuse"):
        assert said in result.output


def test_the_command_exits_with_0_for_a_finite_step_and_2_without_a_step(
    trained: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    run = trained[0] / "tame" / "albedo"
    finite = CliRunner().invoke(main, ["debug-step", str(run), "--step", "4"])
    assert finite.exit_code == 0, finite.output
    assert "replays 0 steps before it" in finite.output
    for arguments, said in (
        ([str(run)], "Give it with --step."),
        ([str(run), "--step", "99"], "expected 0 to 7 in phase"),
        ([str(run), "--phase", "A9", "--step", "1"], "expected a phase of"),
        ([str(tmp_path)], "expected a run"),
        ([str(run), "--step", "1", "--data", str(tmp_path)], "manifest"),
    ):
        wrong = CliRunner().invoke(main, ["debug-step", *arguments])
        assert wrong.exit_code == 2, wrong.output
        assert said in wrong.output


def test_a_step_with_replaced_draws_is_replayed_with_the_same_draws(
    shard_folder: Path, trained_runs: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(shard_folder, tmp_path / "shards")
    shards = ShardSet.open(root)
    skipping: dict[str, Any] = {"workers": 1, "on_bad_sample": "skip", "record_batches": True}
    job = job_in(tmp_path, albedo(trained_runs), shards=shards, **skipping)
    flip_tile(root, shards.rows[0], "albedo")
    launch_local(job)
    lines = (job.directory / "batches-rank0.jsonl").read_text().splitlines()
    seen = asked(tmp_path / "albedo", step=2).replay()
    (turn,) = seen.turns
    assert [one.id for one in turn.samples] == [name for name, _ in json.loads(lines[2])["samples"]]


@pytest.fixture(scope="module")
def copied(trained: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose files a test may change."""
    return Path(shutil.copytree(trained[0] / "tame", tmp_path_factory.mktemp("copied") / "tame")) / "albedo"


def with_environment(run: Path, changes: object) -> ReplayableStep:
    """Return the replayable step of a run whose recorded environment is changed, or replaced."""
    (file,) = run.glob(f"A1-*/{ENVIRONMENT}")
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), **changes} if isinstance(changes, dict) else changes))
    try:
        return asked(run, step=3)
    finally:
        file.write_text(before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"workers": None},
            r"got workers: None in environment\.json; expected the number of workers. Resume",
        ),
        ({"workers": "2"}, "expected the number of workers"),
        ({"workers": 0}, "expected the number of workers"),
        ({"data": 5}, "Give it with --data"),
        ({"runtime": []}, "another version of pbr"),
        ([], r"environment\.json: cannot be read \(not a mapping\)"),
    ],
)
def test_an_incomplete_environment_file_is_an_error_with_advice(
    copied: Path, changes: object, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        with_environment(copied, changes)


@settings(max_examples=40)
@given(st.sampled_from(["workers", "data", "runtime"]), JSON)
def test_an_environment_with_any_value_in_a_field_gives_a_step_or_an_error(
    copied: Path, name: str, value: object
) -> None:
    try:
        assert with_environment(copied, {name: value}).world_size >= 1
    except PbrError as error:
        assert str(error)


def test_the_stored_state_is_removed_after_the_phase_passes_the_step(
    shard_set: ShardSet, trained_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path, albedo(trained_runs), shards=shard_set, workers=1)
    monkeypatch.setattr("pbrlib.train.step.math.isfinite", lambda value: True)
    with monkeypatch.context() as patch:
        patch.setattr("pbrlib.train.step.torch.isfinite", lambda x: torch.tensor(False))
        with pytest.raises(NumericsError):
            launch_local(job)
    assert (job.directory / FAILED_STEP / STEP).is_file()
    launch_local(job)
    assert not (job.directory / FAILED_STEP).exists()

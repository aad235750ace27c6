from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.run import PhaseJob, carry_out, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import CheckpointError, ConfigError
from pbrlib.train import notice
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.checkpoint.state import (
    READABLE,
    STATE,
    checkpoints,
    read_state,
    write_state,
)
from pbrlib.train.record.rundirectory import FinishedPhase, RunDirectory
from pbrlib.train.runtime import LocalRuntime
from tests.checkpoints import as_written_by
from tests.train.phases import Killed, job_of, kill_at


@pytest.fixture
def job(trained_runs: Path, shard_set: ShardSet, albedo_curriculum: Curriculum, tmp_path: Path) -> PhaseJob:
    """Return the albedo phase with the session's segmentation and its own directory."""
    given = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path}
    return job_of(albedo_curriculum, "A1", record_batches=True, **given)


def recorded(directory: Path) -> dict[int, Any]:
    lines = (directory / "batches-rank0.jsonl").read_text().splitlines()
    return {entry["step"]: entry["samples"] for entry in map(json.loads, lines)}


@pytest.mark.parametrize("step", [1, 6])
def test_resumed_run_equals_uninterrupted_run(
    job: PhaseJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    straight = replace(job, runs=tmp_path / "straight")
    best = launch_local(straight)

    broken = replace(job, runs=tmp_path / "broken")
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            launch_local(broken)
    resumed = launch_local(broken)

    assert weights_file(resumed).read_bytes() == weights_file(best).read_bytes()
    assert read_state(resumed) == read_state(best)
    assert recorded(broken.directory) == recorded(straight.directory)
    assert len(recorded(broken.directory)) == 8


@pytest.mark.parametrize("version", READABLE)
def test_a_run_of_an_earlier_version_is_resumed(
    job: PhaseJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    straight = launch_local(replace(job, runs=tmp_path / "straight"))
    with monkeypatch.context() as patch:
        kill_at(6, patch)
        with pytest.raises(Killed):
            launch_local(job)
    (left,) = checkpoints(job.directory)
    as_written_by(version, left)
    assert read_state(left).format_version == version

    resumed = launch_local(job)
    assert weights_file(resumed).read_bytes() == weights_file(straight).read_bytes()
    assert read_state(resumed).metrics == read_state(straight).metrics
    assert recorded(job.directory) == recorded(tmp_path / "straight" / job.title)


def test_a_checkpoint_before_a_preemption_keeps_its_steps_and_cannot_be_the_best(
    job: PhaseJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = replace(job, runs=tmp_path / "straight")
    best = launch_local(straight)

    told = iter([False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(notice, "ASK_EVERY_STEPS", 1)
        patch.setattr(LocalRuntime, "is_preempted", lambda self: next(told, False))
        kill_at(3, patch)
        with pytest.raises(Killed):
            launch_local(job)
    (early,) = job.directory.glob("checkpoint_*")
    assert read_state(early).step == 3 and not read_state(early).metrics
    begun = len((job.directory / "batches-rank0.jsonl").read_text().splitlines())
    resumed = launch_local(job)

    lines = (job.directory / "batches-rank0.jsonl").read_text().splitlines()
    assert json.loads(lines[begun])["step"] == 3
    assert weights_file(resumed).read_bytes() == weights_file(best).read_bytes()
    assert read_state(resumed) == read_state(best)
    assert recorded(job.directory) == recorded(straight.directory)


def test_another_number_of_threads_is_an_error_if_it_rounds_differently(
    job: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(6, patch)
        with pytest.raises(Killed):
            launch_local(job)
    more = replace(job, runtime=job.runtime.model_copy(update={"threads_per_worker": 2}))
    with pytest.raises(ConfigError, match=r"threads_per_worker: got 2; expected 1.*Use 1"):
        launch_local(more)


def test_the_journal_of_a_resumed_run_has_every_step_once(
    job: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(6, patch)
        with pytest.raises(Killed):
            launch_local(job)
    launch_local(job)
    lines = [json.loads(line) for line in (job.directory / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["kind"] == "step"]
    assert steps == sorted(set(steps))
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [4, 8]


def test_a_finished_phase_is_not_run_again(job: PhaseJob) -> None:
    first = carry_out(job, launch_local)

    def refuse(job: PhaseJob) -> Path:
        raise AssertionError("a finished phase was launched")

    assert carry_out(job, refuse) == first
    assert RunDirectory(job.runs, name="albedo").best()[1] == first


def test_a_checkpoint_without_its_state_does_not_exist(job: PhaseJob) -> None:
    launch_local(job)
    last = checkpoints(job.directory)[-1]
    weights = weights_file(last).read_bytes()
    (last / STATE).unlink()
    launch_local(job)
    lines = (job.directory / "batches-rank0.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(8), *range(4, 8)]
    assert weights_file(last).read_bytes() == weights


def test_a_checkpoint_of_another_fingerprint_is_refused(job: PhaseJob) -> None:
    best = launch_local(job)
    write_state(best, replace(read_state(best), fingerprint="0" * 64))
    with pytest.raises(CheckpointError, match=r"got fingerprint 00000000"):
        launch_local(job)


def test_a_phase_trained_again_removes_later_phases_from_the_record(job: PhaseJob) -> None:
    run = RunDirectory(job.runs, name="albedo")
    order = ("A1", "A2", "A3")

    def done(fingerprint: str) -> FinishedPhase:
        return FinishedPhase(fingerprint, f"{fingerprint}/checkpoint", 1, {}, 0.0)

    for phase in order:
        run.finish(phase, done(phase.lower()), order=order)
    run.finish("A2", done("edited"), order=order)
    assert {name: phase.fingerprint for name, phase in run.phases().items()} == {"A1": "a1", "A2": "edited"}

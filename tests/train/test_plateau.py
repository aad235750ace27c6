from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.run import PhaseJob, carry_out, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.checkpoint.state import STATE, Validated, checkpoints, read_state
from pbrlib.train.plateau import on_plateau, steps_since_best
from pbrlib.train.runtime import LocalRuntime
from pbrlib.train.runtimespec import Selection
from tests.checkpoints import as_written_by
from tests.train.phases import Killed, job_of, kill_at, still

L1 = Selection(metric="l1", mode="min")


def history(values: Sequence[float], *, every: int = 2) -> list[Validated]:
    return [Validated(every * (number + 1), {"l1": value}) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "since"),
    [
        ([0.5], 0),
        ([0.5, 0.4, 0.3], 0),
        ([0.3, 0.4, 0.5], 4),
        ([0.5, 0.3, 0.3, 0.3], 4),  # as good is not better
        ([math.nan, 0.3, math.nan], 2),
        ([math.nan, math.nan], 4),
    ],
)
def test_steps_count_from_the_first_of_the_best(values: list[float], since: int) -> None:
    assert steps_since_best(history(values), L1) == since


def test_the_selection_decides_which_checkpoint_is_better() -> None:
    most = Selection(metric="l1", mode="max")
    assert steps_since_best(history([0.3, 0.4, 0.5]), most) == 0
    assert on_plateau(history([0.5, 0.4, 0.3]), most, patience_steps=4)
    assert not on_plateau(history([0.5, 0.4, 0.3]), most, patience_steps=5)
    assert not on_plateau(history([0.5] * 50), L1, patience_steps=None)
    assert not on_plateau([], L1, patience_steps=1)


@pytest.fixture
def job(trained_runs: Path, shard_set: ShardSet, albedo_curriculum: Curriculum, tmp_path: Path) -> PhaseJob:
    """An albedo phase of six epochs of two steps that learns nothing, with patience for two epochs."""
    return impatient(albedo_curriculum, shards=shard_set, donors=trained_runs, runs=tmp_path)


def impatient(
    curriculum: Curriculum, *, shards: ShardSet, donors: Path, runs: Path, **changes: Any
) -> PhaseJob:
    figures = {"epochs": 6, "steps_per_epoch": 2, "plateau": 2, "batch": 2}
    phase = still(curriculum.phases["A1"], **{**figures, **changes})
    curriculum = curriculum.model_copy(update={"phases": {"A1": phase}})
    return job_of(curriculum, "A1", shards=shards, donors=donors, runs=runs)


def last_state(job: PhaseJob) -> Any:
    return read_state(checkpoints(job.directory)[-1])


def test_a_phase_that_no_longer_improves_ends_with_a_reason(job: PhaseJob) -> None:
    done = carry_out(job, launch_local)
    assert done.stopped == "plateau"
    assert [validated.step for validated in done.history] == [2, 4, 6]
    state = last_state(job)
    assert (state.step, state.total_steps, state.stopped) == (6, 12, "plateau")
    assert (
        json.loads((job.run_directory.path / "run.json").read_text())["phases"]["A1"]["stopped"] == "plateau"
    )


@pytest.mark.parametrize(("segment_steps", "ends_at"), [(1, 5), (3, 9), (5, 10)])
def test_patience_is_counted_in_epochs_for_any_segments(
    shard_set: ShardSet,
    trained_runs: Path,
    albedo_curriculum: Curriculum,
    tmp_path: Path,
    segment_steps: int,
    ends_at: int,
) -> None:
    given = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path}
    job = impatient(albedo_curriculum, segment_steps=segment_steps, **given)
    launch_local(job)
    assert last_state(job).step == ends_at


def test_a_stopped_phase_is_not_continued(job: PhaseJob, monkeypatch: pytest.MonkeyPatch) -> None:
    launch_local(job)
    before = last_state(job)

    def refuse(*args: Any, **more: Any) -> Iterator[RawBatch]:
        raise AssertionError("a batch was asked for")

    monkeypatch.setattr(LocalRuntime, "batches", refuse)
    launch_local(job)
    assert last_state(job) == before


def test_the_history_survives_a_kill_and_the_phase_still_ends_where_it_would(
    job: PhaseJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch_local(job)
    broken = replace(job, runs=tmp_path / "broken")
    with monkeypatch.context() as patch:
        kill_at(3, patch)
        with pytest.raises(Killed):
            launch_local(broken)
    launch_local(broken)
    assert last_state(broken) == last_state(job)
    assert len(last_state(broken).history) == 3


def test_a_phase_that_improves_runs_to_its_last_step(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    first = albedo_curriculum.phases["A1"]
    job = impatient(
        albedo_curriculum,
        shards=shard_set,
        donors=trained_runs,
        runs=tmp_path,
        epochs=4,
        batch=6,
        optimizer=first.optimizer,
        schedule=first.schedule,
    )
    done = carry_out(job, launch_local)
    assert done.stopped is None
    assert last_state(job).step == 8
    values = [validated.metrics["val/all/albedo/l1"] for validated in done.history]
    assert values == sorted(values, reverse=True), "else this test shows nothing"


def test_a_plateau_at_the_last_step_is_an_ordinary_end(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    job = impatient(albedo_curriculum, shards=shard_set, donors=trained_runs, runs=tmp_path, epochs=3)
    assert carry_out(job, launch_local).stopped is None


def test_a_checkpoint_from_before_there_was_a_history_can_be_read(job: PhaseJob) -> None:
    best = launch_local(job)
    as_written_by(1, best)
    assert "history" not in json.loads((best / STATE).read_text())
    assert read_state(best).history == ()

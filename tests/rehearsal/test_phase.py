from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pbrlib.curriculum.draws import phase_plan
from pbrlib.curriculum.run import PhaseJob, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import ConfigError
from pbrlib.rehearsal import phase as rehearsal
from pbrlib.rehearsal.measured import rehearse
from pbrlib.train import learner, loop
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.checkpoint.state import checkpoints, read_state
from pbrlib.train.record.rundirectory import RunDirectory
from tests.train.phases import job_of

EPOCHS = 10


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SUPPLY_S", 0.02)


@pytest.fixture
def job(shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path) -> PhaseJob:
    """A phase of forty steps on one worker."""
    phase = albedo_curriculum.phases["A1"].model_copy(update={"epochs": EPOCHS})
    curriculum = albedo_curriculum.model_copy(update={"phases": {"A1": phase}})
    given = {"record_batches": True, "batch_per_device": 4}
    return job_of(curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path / "runs", **given)


def seen(job: PhaseJob) -> dict[int, object]:
    """The samples of every step, hashed after their augmentation."""
    lines = (job.directory / "batches-rank0.jsonl").read_text().splitlines()
    return {entry["step"]: entry["samples"] for entry in map(json.loads, lines)}


def test_the_rehearsed_steps_are_the_first_steps_of_the_real_phase(
    job: PhaseJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[int, int, Mapping[str, float]]] = []
    whole = learner.apply_rates

    def noted(*given: object, step: int, total_steps: int, **more: object) -> Mapping[str, float]:
        found = whole(*given, step=step, total_steps=total_steps, **more)  # type: ignore[arg-type]
        rates.append((step, total_steps, dict(found)))
        return found

    monkeypatch.setattr(learner, "apply_rates", noted)
    rehearse(job, launch_local)
    rehearsed, rates = rates, []
    real = replace(job, runs=tmp_path / "real")
    launch_local(real)
    assert [step for step, _, _ in rehearsed] == [0, 1, 2, 3]
    assert rehearsed == rates[:4], "rates of the whole schedule, not of one of three steps"
    batches = seen(job)
    assert batches == {step: samples for step, samples in seen(real).items() if step < 4}


def test_the_second_start_finds_the_cursor_and_the_weights_of_the_first(job: PhaseJob) -> None:
    figures = rehearse(job, launch_local)
    (folder,) = checkpoints(job.directory)
    assert read_state(folder).step == 3
    assert figures.restored and figures.restored_at == 3
    assert figures.checkpoint_bytes == sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file()
    )
    assert figures.weights_bytes == weights_file(folder).stat().st_size


def test_a_second_start_without_the_weights_of_the_first_has_not_restored(
    job: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cursor alone, as a restore would leave it that forgets the weights.
    monkeypatch.setattr(loop, "restore", lambda folder, **_: read_state(folder))
    figures = rehearse(job, launch_local)
    assert figures.restored_at == 3 and not figures.restored


def test_a_rehearsed_phase_is_recorded_as_a_donor(job: PhaseJob, shard_set: ShardSet, tmp_path: Path) -> None:
    rehearse(job, launch_local)
    folder, done = RunDirectory(job.runs, name="albedo").best("A1")
    assert done.step == 3 and done.fingerprint == job.fingerprint
    heir = replace(job, runs=tmp_path / "heir", starts_from=folder)
    figures = rehearse(heir, launch_local)
    assert figures.donor_tensors == (figures.ranks[0].tensors, figures.ranks[0].tensors)


def test_every_source_is_validated_and_the_largest_textures_of_it(shard_set: ShardSet) -> None:
    rows = [row for row in shard_set.rows if row.split == "val"]
    small = replace(rows[0], id="small", source="other", height=64, width=64)
    wide = replace(rows[1], id="wide", height=256, width=256)
    found = rehearsal.largest([*rows, small, wide], most=2)
    assert [row.id for row in found] == ["wide", "small"]
    assert len(rehearsal.largest([*rows, small, wide], most=5)) == 5


def test_validation_and_reading_are_extrapolated_by_pixels(job: PhaseJob) -> None:
    figures = rehearse(job, launch_local)
    own = figures.ranks[0].validation
    assert own is not None
    assert (own.textures, own.all_textures) == (4, 7)
    assert (own.pixels, own.all_pixels) == (4 * 128 * 128, 7 * 128 * 128)
    assert figures.validated == (4, 7)
    assert figures.validation_s == pytest.approx(1.75 * own.seconds + own.picture_s)
    assert figures.load_s == pytest.approx(1.75 * own.load_s)
    # The textures stay in memory: what the other three take is added.
    assert figures.host_bytes == figures.ranks[0].host_bytes + round(0.75 * own.stored_bytes)


def test_a_phase_that_is_shorter_than_a_rehearsal_is_rehearsed_whole(
    shard_set: ShardSet, trained_runs: Path, segformer_curriculum: Curriculum, tmp_path: Path
) -> None:
    job = job_of(segformer_curriculum, "S0", shards=shard_set, donors=trained_runs, runs=tmp_path)
    figures = rehearse(job, launch_local)
    assert phase_plan(segformer_curriculum, "S0", shard_set.rows).total_steps == 2
    assert len(figures.ranks[0].step_s) == 2
    assert figures.restored and figures.restored_at == 2


def test_a_device_without_room_names_the_phase_and_a_smaller_batch(
    job: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    monkeypatch.setattr(learner.Learner, "accumulate", full)
    expected = (
        r"phases\.A1: got a micro-batch of 3 at 64 px; expected one that fits into memory \(CUDA "
        r"out of memory\. Tried to allocate 2\.00 GiB\)\. Set batch_per_device: 1 in the runtime file\."
    )
    with pytest.raises(ConfigError, match=expected):
        rehearse(job, launch_local)


class Drip:
    """A stream that gives a batch of six whenever its clock has moved on by a quarter of a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, length: int) -> None:
        self.now, self.length = 100.0, length
        monkeypatch.setattr(rehearsal.time, "monotonic", lambda: self.now)

    def __iter__(self) -> Iterator[Sequence[int]]:
        for number in range(self.length):
            self.now += 0.0 if number < 5 else 0.25
            yield [0] * 6


def test_supply_is_the_pace_behind_the_batches_that_lay_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    supply, spent = rehearsal.stream_throughput(iter(Drip(monkeypatch, length=100)), seconds=4.0)  # type: ignore[arg-type]
    assert supply == pytest.approx(24.0)
    assert spent == pytest.approx(4.0)


def test_of_a_stream_that_ends_before_no_pace_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    supply, _ = rehearsal.stream_throughput(iter(Drip(monkeypatch, length=10)), seconds=4.0)  # type: ignore[arg-type]
    assert supply is None

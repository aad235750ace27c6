"""Tests of the journal's lines about replaced draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import PhaseJob, launch_local
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DamageError
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.train.badsamples import BadSamples
from pbrlib.train.record.journal import METRICS
from ray_jobs.progress import progress_line
from tests.conftest import ALBEDO
from tests.damage import flip_tile
from tests.train.phases import Killed, job_of, kill_at


@pytest.fixture
def damaged(shard_folder: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """The session's shards with a flipped byte, and the ids of the two training materials of that page."""
    root = shutil.copytree(shard_folder, tmp_path / "shards")
    shards = ShardSet.open(root)
    row, other = shards.rows[:2]
    assert (row.split, other.split, other.first_row) == ("train", "train", 1)
    flip_tile(root, row, "albedo")
    return root, {row.id, other.id}


@pytest.fixture
def job(damaged: tuple[Path, set[str]], trained_runs: Path, shard_set: ShardSet, tmp_path: Path) -> PhaseJob:
    """A phase of eight steps on the damaged shards, with a checkpoint every two steps."""
    curriculum = parse_curriculum(ALBEDO.replace("epochs: 2", "epochs: 2\n    segment_steps: 2"))
    given: dict[str, Any] = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path / "runs"}
    job = job_of(curriculum, "A1", on_bad_sample="skip", record_batches=True, **given)
    return replace(job, data=DataSpec.from_location(damaged[0]))


def lines(job: PhaseJob, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (job.directory / METRICS).read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def drawn(job: PhaseJob) -> list[str]:
    """Return the ids of all training samples."""
    entries = map(json.loads, (job.directory / "batches-rank0.jsonl").read_text().splitlines())
    return [name for entry in entries for name, _ in entry["samples"]]


def test_replaced_draws_are_counted_and_the_count_continues_after_resuming(
    job: PhaseJob, damaged: tuple[Path, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DamageError, match="|".join(damaged[1])):
        failing = job.runtime.model_copy(update={"on_bad_sample": "fail"})
        launch_local(replace(job, runtime=failing, runs=tmp_path / "failing"))

    whole = replace(job, runs=tmp_path / "whole")
    launch_local(whole)
    assert len(drawn(whole)) == 48
    assert not damaged[1] & set(drawn(whole))
    step, reported = lines(whole, "step")[-1], lines(whole, "bad_samples")
    assert step["bad_samples"] == reported[-1]["bad_samples"] == sum(line["draws"] for line in reported) > 0
    named = [name for line in reported for name in line["materials"]]
    assert sorted(named) == sorted(damaged[1]), "each once"
    assert f"{step['bad_samples']:.0f} bad samples" in progress_line("albedo/A1", step)

    with monkeypatch.context() as patch:
        kill_at(5, patch)
        with pytest.raises(Killed):
            launch_local(job)
    launch_local(job)
    assert lines(job, "bad_samples") == reported

    shown = PhaseFolder(job.directory, "A1", select=None, done=None).complaints
    assert (
        shown[0]
        == f"{step['bad_samples']:.0f} draws of 2 damaged materials were replaced (on_bad_sample: skip)"
    )
    assert [line.split(": ")[:2] for line in shown[1:]] == [["damaged", name] for name in named]


class Ranks:
    """A runtime that returns the values of two ranks and is the first of them."""

    def __init__(self, *others: str) -> None:
        self.others = list(others)

    def gather(self, value: Sequence[str]) -> list[list[str]]:
        return [list(value), self.others]


def test_the_ranks_add_up_and_each_material_is_named_once() -> None:
    bad = BadSamples()
    bad.add([("m1", "flipped"), ("m1", "flipped")])
    assert bad.num == 2
    ranks: Any = Ranks(json.dumps(["m2", "cut"]), json.dumps(["m1", "flipped"]))
    assert bad.share(ranks) == {"bad_samples": 4.0, "draws": 4.0, "materials": {"m1": "flipped", "m2": "cut"}}
    bad.add([("m2", "cut")])
    assert bad.share(Ranks()) == {"bad_samples": 5.0, "draws": 1.0, "materials": {}}  # type: ignore[arg-type]
    assert bad.share(Ranks()) is None  # type: ignore[arg-type]

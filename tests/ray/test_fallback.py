"""A damaged newest checkpoint on Ray: a fit continues from the one before it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pbrlib.curriculum.run import PhaseJob, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import CheckpointError
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.checkpoint.state import checkpoints, step_of_checkpoint
from pbrlib.train.record.rundirectory import SNAPSHOT
from ray_jobs.fit.fit import FAILURE, launch_on_ray
from tests.damage import flip
from tests.train.phases import job_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def job(shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path) -> PhaseJob:
    given = {"shards": shard_set, "donors": trained_runs, "data_cpus": 0.3}
    return job_of(albedo_curriculum, "A1", runs=tmp_path / "ray", **given)


def test_a_fit_continues_from_the_checkpoint_before_a_damaged_one_and_ends_as_if_undisturbed(
    ray_cluster: None, job: PhaseJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    straight = launch_local(replace(job, runs=tmp_path / "straight"))
    launch_on_ray(job)
    newest = checkpoints(job.directory)[-1]
    flip(weights_file(newest))
    best = launch_on_ray(job)
    assert weights_file(best).read_bytes() == weights_file(straight).read_bytes()
    assert [one for one in caplog.messages if "checkpoint_00000008 damaged" in one]
    assert [folder.name for folder in checkpoints(job.directory)] == ["checkpoint_00000004", newest.name]
    assert not (job.directory / FAILURE).exists()
    for folder in checkpoints(job.directory):
        flip(weights_file(folder))
    with pytest.raises(CheckpointError, match="got only damaged checkpoints"):
        launch_on_ray(job)
    assert len(checkpoints(job.directory)) == 2, "nothing is changed"


def test_the_checkpoint_before_the_newest_is_there_where_all_before_are_better(
    ray_cluster: None, job: PhaseJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phase = job.curriculum.phases["A1"]
    # What it learns is the worse the longer it learns.
    select = phase.select.model_copy(update={"mode": "max"})
    getting_worse = phase.model_copy(update={"epochs": 8, "steps_per_epoch": 2, "select": select})
    job = replace(job, curriculum=job.curriculum.model_copy(update={"phases": {"A1": getting_worse}}))
    straight = launch_local(replace(job, runs=tmp_path / "straight"))
    best = launch_on_ray(job)
    steps = [step_of_checkpoint(folder) for folder in checkpoints(job.directory)]
    assert steps == [step_of_checkpoint(best), 14, 16] and steps[0] < 12, "the best is an old one"
    flip(weights_file(job.directory / "checkpoint_00000016"))
    assert launch_on_ray(job) == best
    assert [one for one in caplog.messages if "16 damaged, going on from checkpoint_00000014" in one]
    assert weights_file(best).read_bytes() == weights_file(straight).read_bytes()
    assert [step_of_checkpoint(folder) for folder in checkpoints(job.directory)] == steps


def test_a_fit_begins_from_the_newest_checkpoint_whatever_record_an_older_version_has_left(
    ray_cluster: None, job: PhaseJob
) -> None:
    runtime = job.runtime.model_copy(update={"record_batches": True, "workers": 2})
    job = replace(job, runtime=runtime)
    best = launch_on_ray(job)
    first, last = checkpoints(job.directory)
    shutil.rmtree(last)
    names_what_is_gone = {"checkpoint_results": [{"checkpoint_dir_name": last.name, "metrics": {}}]}
    (job.directory / SNAPSHOT).write_text(json.dumps(names_what_is_gone))

    again = launch_on_ray(job)
    assert (again.name, weights_file(again).read_bytes()) == (best.name, weights_file(best).read_bytes())
    assert checkpoints(job.directory) == [first, last]

    lines = (job.directory / "batches-rank0.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(8), *range(4, 8)]

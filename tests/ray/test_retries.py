"""The reaction of a fit on Ray to failures of two workers, each at a given step."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from pbrlib import storage
from pbrlib.curriculum.run import PhaseJob, build_phase, run_phase
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DataError, RepeatedError
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.learner import Learner
from pbrlib.train.record.incidents import INCIDENTS
from pbrlib.train.runtime import Runtime
from ray_jobs.cluster.session import BARRIER_TIMEOUT
from ray_jobs.fit.fit import launch_on_ray
from tests.faults.training import batches_in
from tests.train.phases import job_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(420)]


# The workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def out_of_memory(job: PhaseJob, runtime: Runtime) -> None:
    """End every attempt at step 2 of rank 1; in the first one, kill rank 0 before."""
    run, _ = build_phase(job, runtime)
    first = job.directory / "first"
    if runtime.rank == 0 and not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    for step, _ in enumerate(runtime.batches(run.plan, maps=run.maps, first_step=0)):
        runtime.all_reduce(torch.ones(1))
        if step == 2 and runtime.rank == 1:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {os.getpid()}.00 GiB.")


def short_of_memory_once(job: PhaseJob, runtime: Runtime) -> None:
    """Trains the phase; the device of rank 1 has no room at step 5, the first time."""
    update, first = Learner.update, job.directory / "first"
    steps = itertools.count(0 if runtime.latest_checkpoint() is None else 4)

    def updating(self: Learner) -> None:
        if runtime.rank == 1 and next(steps) == 5 and not first.exists():
            first.touch()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "update", updating)
        run_phase(job, runtime)


def incidents(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / INCIDENTS).read_text().splitlines()]


def test_a_full_device_is_retried_once_and_a_killed_process_every_time(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    places = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path}
    job = job_of(albedo_curriculum, "A1", **places, workers=2, data_cpus=0.3)  # type: ignore[arg-type]
    with pytest.raises(RepeatedError, match=r"phase A1, step 2: OutOfMemoryError: .*batch_per_device"):
        launch_on_ray(job, work=out_of_memory)
    lines = incidents(job.directory)
    assert [line["cause"] for line in lines] == ["lost", "device memory", "device memory"]
    assert [line["step"] for line in lines] == [None, 2, 2]
    assert [line["verdict"] for line in lines] == ["retried", "retried", "stops: it would repeat"]


def hanging(job: PhaseJob, runtime: Runtime) -> None:
    """Keep rank 1 from the collective of step 1 in the first attempt; the second attempt ends at once."""
    run, _ = build_phase(job, runtime)
    first = job.directory / "first"
    second_attempt = first.exists()
    for step, _ in enumerate(runtime.batches(run.plan, maps=run.maps, first_step=0)):
        if step == 1 and second_attempt:
            raise DataError("enough")
        if step == 1 and runtime.rank == 1:
            first.touch()
            time.sleep(300)
        runtime.all_reduce(torch.ones(1))


def test_a_device_that_had_no_room_once_costs_the_steps_since_the_checkpoint(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"shards": shard_set, "donors": trained_runs, "record_batches": True}
    undisturbed, job = (
        job_of(albedo_curriculum, "A1", runs=tmp_path / name, workers=2, data_cpus=0.3, **given)
        for name in ("undisturbed", "short")
    )
    wanted = launch_on_ray(undisturbed)
    best = launch_on_ray(job, work=short_of_memory_once)
    (line,) = incidents(job.directory)
    assert (line["cause"], line["step"], line["verdict"]) == ("device memory", 5, "retried")
    steps = [one["step"] for one in storage.read_records(job.directory / "batches-rank0.jsonl")]
    print(f"steps: {steps}")
    assert 0 < len(steps) - len(set(steps)) <= 4
    assert batches_in(job.directory) == batches_in(undisturbed.directory)
    assert weights_file(best).read_bytes() == weights_file(wanted).read_bytes()


def test_a_rank_that_hangs_in_a_step_ends_the_attempt_when_its_time_is_over(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    places = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path}
    limits = {"input_timeout_s": 14, "collective_timeout_s": 15}
    job = job_of(albedo_curriculum, "A1", **places, workers=2, data_cpus=0.3, **limits)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="enough"):
        launch_on_ray(job, work=hanging)
    hung, ended = incidents(job.directory)
    assert (hung["cause"], hung["step"], hung["rank"], hung["verdict"]) == ("error", 1, 0, "retried")
    assert 13 < hung["at"] - (job.directory / "first").stat().st_mtime < 60
    assert ended["cause"] == "mistake"


def absent(job: PhaseJob, runtime: Runtime) -> None:
    """Keep rank 1 from reporting in the first attempt; the second attempt ends at once."""
    first = job.directory / "first"
    if first.exists():
        raise DataError("enough")
    runtime.all_reduce(torch.ones(1))
    if runtime.rank == 1:
        first.touch()
        time.sleep(300)
    runtime.report({}, checkpoint=None, step=1)


def test_a_rank_that_never_reports_ends_the_attempt_when_its_time_is_over(
    ray_cluster: None,
    shard_set: ShardSet,
    trained_runs: Path,
    albedo_curriculum: Curriculum,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (name,) = BARRIER_TIMEOUT
    monkeypatch.setenv(name, "15")
    places = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path}
    job = job_of(albedo_curriculum, "A1", **places, workers=2, data_cpus=0.3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="enough"):
        launch_on_ray(job, work=absent)
    hung, ended = incidents(job.directory)
    assert "BroadcastCollectiveTimeoutError" in hung["error"]
    assert (hung["rank"], hung["verdict"]) == (0, "retried")
    assert 13 < hung["at"] - (job.directory / "first").stat().st_mtime < 60
    assert ended["cause"] == "mistake"

"""Processes that are killed under a fit or a stream: what they had to do is done again, and nothing else.

The slow tests kill them in a cluster of several nodes, at steps by chance (tests/faults/test_processes.py).
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from pbrlib import storage
from pbrlib.curriculum.run import PhaseJob, run_phase
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.learner import Learner
from pbrlib.train.record.incidents import INCIDENTS
from pbrlib.train.runtime import Runtime
from ray_jobs.fit.fit import launch_on_ray
from tests.faults.training import batches_in
from tests.ray.test_datasets import assert_plain, planned, streamed
from tests.train.phases import job_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

# The workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

SEGMENT, AT = 4, 6


def killed_once(job: PhaseJob, runtime: Runtime) -> None:
    """Trains the phase; rank 1 is killed in the middle of its second segment, the first time."""
    update, killed = Learner.update, job.directory / "killed"
    steps = itertools.count(0 if runtime.latest_checkpoint() is None else SEGMENT)

    def updating(self: Learner) -> None:
        if runtime.rank == 1 and next(steps) == AT and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "update", updating)
        run_phase(job, runtime)


def test_a_killed_worker_is_replaced_and_costs_the_steps_since_the_checkpoint(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"shards": shard_set, "donors": trained_runs, "record_batches": True}
    undisturbed, job = (
        job_of(albedo_curriculum, "A1", runs=tmp_path / name, workers=2, data_cpus=0.3, **given)
        for name in ("undisturbed", "killed")
    )
    wanted = launch_on_ray(undisturbed)
    best = launch_on_ray(job, work=killed_once)
    (line,) = storage.read_records(job.directory / INCIDENTS)
    assert (line["cause"], line["verdict"], line["committed"]) == ("lost", "retried", SEGMENT)
    steps = [one["step"] for one in storage.read_records(job.directory / "batches-rank0.jsonl")]
    # Rank 0 may have begun the step behind the one in which rank 1 was killed.
    assert AT + 1 - SEGMENT <= len(steps) - len(set(steps)) <= AT + 2 - SEGMENT
    assert batches_in(job.directory) == batches_in(undisturbed.directory)
    assert weights_file(best).read_bytes() == weights_file(wanted).read_bytes()


class Deadly(ShardSet):
    """Kills the process that reads its tiles, the first time."""

    def read_columns(self, *given: Any) -> dict[str, Any]:
        killed = Path(self.location, "killed")
        if not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read_columns(*given)

    def __reduce__(self) -> Any:
        return _restored, (self.location, self.manifest, self.rows)


def _restored(location: str, manifest: Any, rows: Any) -> Deadly:
    return Deadly(location, manifest=manifest, rows=rows)


def test_a_killed_data_task_is_done_again(ray_cluster: None, shard_folder: Path, tmp_path: Path) -> None:
    import shutil

    root = Path(shutil.copytree(shard_folder, tmp_path / "shards"))
    whole = ShardSet.open(root)
    plan = planned(whole)
    found = streamed(plan, _restored(str(root), whole.manifest, whole.rows))
    assert (root / "killed").exists()
    assert_plain(found, plan, whole)

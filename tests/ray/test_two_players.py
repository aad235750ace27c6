"""A generator and its critic through Ray: two workers, each player wrapped by DDP, one stream of batches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from pbrlib.curriculum.run import PhaseJob
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.checkpoint.state import checkpoints, read_state
from pbrlib.train.runtime import Runtime
from ray_jobs.fit.fit import launch_on_ray
from tests.train import twoplayers
from tests.train.phases import job_of
from tests.train.twoplayers import CRITIC, GENERATOR, SELECTION, TwoPlayers, alone, run_of, train

pytestmark = pytest.mark.ray

# The workers cannot import these modules.
for module in (sys.modules[__name__], twoplayers):
    ray.cloudpickle.register_pickle_by_value(module)


def work(job: PhaseJob, runtime: Runtime) -> None:
    """Train a phase with two players on every rank in place of the phase of the job."""
    train(run_of(job.directory, runtime.shards), TwoPlayers(), runtime)


def test_two_workers_of_ray_train_two_players_as_one_process_does(
    ray_cluster: None, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"shards": shard_set, "donors": trained_runs, "runs": tmp_path / "ray"}
    job = job_of(albedo_curriculum, "A1", **given, workers=2, data_cpus=0.3)
    assert job.selection == SELECTION
    launch_on_ray(job, work=work)
    own = tmp_path / "alone"
    train(run_of(own, shard_set), TwoPlayers(), alone(own, shard_set))
    ours, theirs = checkpoints(job.directory)[-1], checkpoints(own)[-1]
    assert ours.name == theirs.name
    for player in (GENERATOR, CRITIC):
        expected = read_weights(theirs, player=player)
        for name, tensor in read_weights(ours, player=player).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    assert set(read_state(ours).players) == {GENERATOR, CRITIC}

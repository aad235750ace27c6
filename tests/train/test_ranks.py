"""Tests of the training loop on two ranks with DDP, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.curriculum.run import PhaseJob, run_phase
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.union import open_data
from pbrlib.train.collectives import ProcessGroup
from pbrlib.train.runtime import LocalRuntime
from tests.gloo import gloo_rank, run_ranks
from tests.train.phases import FREEZING, job_freezing, still

WORLD = 2


class GlooRuntime(ProcessGroup, LocalRuntime):
    """A rank of two plain processes with DDP, which does not search for unused parameters."""

    def wrap(self, module: nn.Module) -> nn.Module:
        wrapped = DistributedDataParallel(module)
        assert not wrapped.find_unused_parameters
        return wrapped

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        super().report(metrics, checkpoint=checkpoint, step=step)
        dist.barrier()


def rank_main(rank: int, jobs: Mapping[str, PhaseJob], folder: Path) -> None:
    with gloo_rank(rank, folder=folder, world=WORLD):
        ended: dict[str, Any] = {}
        for name, job in jobs.items():
            if rank == 0:
                job.directory.mkdir(parents=True, exist_ok=True)
            runtime = GlooRuntime(
                shards=open_data(job.data),
                directory=job.directory,
                selection=job.curriculum.phases[job.phase].select,
                device=torch.device("cpu"),
                rank=rank,
                world_size=WORLD,
            )
            state = run_phase(job, runtime)
            ended[name] = (state.step, state.stopped, [validated.metrics for validated in state.history])
        torch.save(ended, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def ranks(shard_folder: Path, trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return the results of each rank for every phase, all trained in one pair of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    given = {"shards": ShardSet.open(shard_folder), "donors": trained_runs, "workers": WORLD}
    jobs = {
        # Three steps: DDP complains of a parameter without a gradient when the next step begins.
        what: job_freezing(what, runs=folder / str(number), steps=3, **given)
        for number, what in enumerate(FREEZING)
    }
    # Dropped so often that some rank shows no sample its conditioning.
    jobs["dropped"] = job_freezing("nothing", runs=folder / "d", steps=3, film_dropout=0.9, **given)
    jobs["plateau"] = plateau(job_freezing("nothing", runs=folder / "p", steps=1, **given))
    run_ranks(rank_main, jobs, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def plateau(job: PhaseJob) -> PhaseJob:
    """A phase of ten epochs without improvement and with a patience of two."""
    phase = still(job.curriculum.phases[job.phase], epochs=10, plateau=2)
    return replace(job, curriculum=job.curriculum.model_copy(update={"phases": {job.phase: phase}}))


@pytest.mark.parametrize("what", [*FREEZING, "dropped"])
def test_every_trained_parameter_has_a_gradient_on_every_rank(ranks: list[Any], what: str) -> None:
    assert [rank[what][0] for rank in ranks] == [3, 3]


def test_all_ranks_end_at_the_same_plateau(ranks: list[Any]) -> None:
    steps, stopped, histories = zip(*(rank["plateau"] for rank in ranks), strict=True)
    assert steps == (3, 3)
    assert stopped == ("plateau", "plateau")
    assert histories[0] == histories[1]

"""Tests that frozen tensors are unchanged bit for bit and all others change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.describe.description import describe
from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.curriculum.spec import PhaseSpec
from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.inference.opened import open_network
from pbrlib.models.modelspec import UNetSpec
from pbrlib.optim.groups import parameter_groups
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from tests.train.phases import FREEZING, FROZEN, job_freezing


def trained(
    what: str, *, shards: ShardSet, donors: Path, runs: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[tuple[str, ...]]]:
    """Return all tensors before and after one step, and the names of each group that learns."""
    job = job_freezing(what, shards=shards, donors=donors, runs=runs)
    after = launch_local(job)
    assert job.starts_from is not None
    _, network = open_network(after, device=torch.device("cpu"))
    groups = parameter_groups(network, job.curriculum.phases[job.phase].optimizer)
    return (
        read_weights(job.starts_from),
        read_weights(after),
        [group.names for group in groups if not group.frozen],
    )


@pytest.mark.parametrize("what", FREEZING)
def test_a_step_changes_no_frozen_tensor_and_every_group_that_learns(
    what: str, shard_set: ShardSet, trained_runs: Path, tmp_path: Path
) -> None:
    before, after, groups = trained(what, shards=shard_set, donors=trained_runs, runs=tmp_path)
    frozen = [name for name in before if name.startswith(FROZEN[what] or ("-",))]
    assert bool(frozen) == bool(FROZEN[what])
    for name in frozen:
        assert torch.equal(before[name], after[name]), name
    for names in groups:
        assert not set(names) & set(frozen)
        assert any(not torch.equal(before[name], after[name]) for name in names), names
    # A key's bias moves every score of a query alike and has no gradient but rounding.
    learning = [name for names in groups for name in names if before[name].ndim > 1]
    assert [name for name in learning if torch.equal(before[name], after[name])] == []


def test_running_statistics_of_a_batch_norm_change_only_if_it_is_not_frozen(
    shard_set: ShardSet, trained_runs: Path, tmp_path: Path
) -> None:
    buffers = {"decoder.norm.running_mean", "decoder.norm.running_var", "decoder.norm.num_batches_tracked"}
    for what, moves in (("decoder with its batch norm", False), ("S4 encoder", True)):
        before, after, groups = trained(
            what, shards=shard_set, donors=trained_runs, runs=tmp_path / str(moves)
        )
        assert buffers <= before.keys() - {name for names in groups for name in names}
        assert {not torch.equal(before[name], after[name]) for name in buffers} == {moves}


def smaller(phase: PhaseSpec, **changes: object) -> PhaseSpec:
    """A phase of the recipe with its optimizer, schedule and loss, over two small steps."""
    small = {"data": {"generated": 1.0}, "crop": 64, "epochs": 2, "steps_per_epoch": 1, "plateau": None}
    plain = {"balance": BalanceSpec(), "mosaic": None, "gate": None, "augment": AugmentSpec()}
    return phase.model_copy(update={**small, **plain, **changes})


@pytest.mark.parametrize("family", ["height", "ao"])
def test_the_last_phase_of_family_p_trains_the_planned_groups_but_not_the_encoder(
    family: str, shard_set: ShardSet, trained_runs: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained_runs, runs)
    curriculum = load_curriculum(Path(f"configs/rev7/{family}.yaml"))
    phases = curriculum.phases
    task = curriculum.task.model_copy(update={"model": UNetSpec(width=8, depth=2)})
    small = {"P2": smaller(phases["P2"], starts_from=None), "P3": smaller(phases["P3"])}
    curriculum = curriculum.model_copy(update={"task": task, "phases": small})
    runtime = RuntimeSpec(workers=1)
    for phase in small:
        job = resolve(curriculum, phase, shards=shard_set, runs=runs, runtime=runtime)
        carry_out(job, launch_local)
    assert job.starts_from is not None
    before = read_weights(job.starts_from)
    after = read_weights(RunDirectory(runs, name=family).best("P3")[0])
    planned = describe(curriculum, runtime=runtime)["phases"]["P3"]["groups"]
    stays = {part for group in planned if group["frozen"] for part in group["parts"]}
    moves = {part for group in planned if not group["frozen"] for part in group["parts"]}
    assert stays == {f"encoder.stages.{number}" for number in range(3)}
    assert moves == {"film", "decoder", "head"}
    for name in before:
        part = next(part for part in stays | moves if name.startswith(f"{part}."))
        assert torch.equal(before[name], after[name]) == (part in stays), name

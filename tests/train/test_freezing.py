"""What a phase freezes stays as it is to the last bit; all else moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pbrlib.curriculum.run import launch_local
from pbrlib.data.shards.reader import ShardSet
from pbrlib.inference.networks import open_network
from pbrlib.optim.groups import parameter_groups
from pbrlib.train.state import read_weights

from .phases import FREEZING, FROZEN, job_freezing


def trained(
    what: str, *, shards: ShardSet, donors: Path, runs: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[tuple[str, ...]]]:
    """All tensors before and after one step, and the names of each group that learns."""
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


def test_the_running_figures_of_a_batch_norm_rest_with_what_holds_them_and_move_otherwise(
    shard_set: ShardSet, trained_runs: Path, tmp_path: Path
) -> None:
    buffers = {"decoder.norm.running_mean", "decoder.norm.running_var", "decoder.norm.num_batches_tracked"}
    for what, moves in (("decoder with its batch norm", False), ("S4 encoder", True)):
        before, after, groups = trained(
            what, shards=shard_set, donors=trained_runs, runs=tmp_path / str(moves)
        )
        assert buffers <= before.keys() - {name for names in groups for name in names}
        assert {not torch.equal(before[name], after[name]) for name in buffers} == {moves}

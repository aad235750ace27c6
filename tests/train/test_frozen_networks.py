"""Tests that a phase of a map never changes the frozen networks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import PhaseJob, launch_local, resolve
from pbrlib.data.draws.batch import Batch
from pbrlib.data.shards.reader import ShardSet
from pbrlib.inference.chain import Condition
from pbrlib.tasks.maps import MapTask
from pbrlib.tasks.supervised import Example
from pbrlib.train import learner
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.runtime import LocalRuntime
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import METALLIC

BEFORE = {
    "albedo": ("segformer",),
    "roughness": ("segformer", "albedo"),
    "metallic": ("segformer", "albedo"),
    "height": ("segformer",),
    "ao": ("segformer",),
}
"""A map -> the networks before it."""


@dataclass
class Seen:
    """A phase with access to its internal objects."""

    tasks: list[MapTask] = field(default_factory=list)
    modes: list[bool] = field(default_factory=list)
    same_answers: list[bool] = field(default_factory=list)
    wrapped: list[nn.Module] = field(default_factory=list)
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)

    @property
    def frozen(self) -> dict[str, nn.Module]:
        chain = self.tasks[-1].chain
        networks = {"segformer": chain.segmentation, "albedo": chain.albedo}
        return {name: network for name, network in networks.items() if network is not None}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Records the next phase's modules, optimizers and calls of the frozen networks."""
    seen = Seen()
    prepare, wrap, build = MapTask.prepare, LocalRuntime.wrap, learner.build_optimizer

    def prepared(self: MapTask, batch: Batch, *, training: bool) -> Example:
        assert self.players[0].module.training == training
        example, again = prepare(self, batch, training=training), prepare(self, batch, training=False)
        if training:
            seen.tasks.append(self)
        seen.modes += [module.training for net in seen.frozen.values() for module in net.modules()]
        pairs = ((example.x, again.x), (example.condition, again.condition))
        seen.same_answers += [torch.equal(*pair) for pair in pairs]  # type: ignore[arg-type]
        return example

    def wrapped(self: LocalRuntime, module: nn.Module) -> nn.Module:
        seen.wrapped.append(module)
        return wrap(self, module)

    def optimizer(*args: Any) -> torch.optim.Optimizer:
        seen.optimizers.append(build(*args))
        return seen.optimizers[-1]

    monkeypatch.setattr(MapTask, "prepare", prepared)
    monkeypatch.setattr(LocalRuntime, "wrap", wrapped)
    monkeypatch.setattr(learner, "build_optimizer", optimizer)
    return seen


def job_for(kind: str, *, shards: ShardSet, donors: Path, runs: Path) -> PhaseJob:
    text = METALLIC.replace("metallic", kind).replace("steps_per_epoch: 6", "steps_per_epoch: 2")
    if kind == "albedo":
        text = text.replace("name: albedo", "name: colours")
    curriculum = parse_curriculum(text)
    job = resolve(curriculum, "M0", shards=shards, runs=donors, runtime=RuntimeSpec(workers=1))
    return replace(job, runs=runs)


def tensors(network: nn.Module) -> set[int]:
    return {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}


@pytest.mark.parametrize("kind", BEFORE)
def test_frozen_networks_do_not_change_while_a_map_trains(
    kind: str, seen: Seen, shard_set: ShardSet, trained_runs: Path, tmp_path: Path
) -> None:
    job = job_for(kind, shards=shard_set, donors=trained_runs, runs=tmp_path)
    launch_local(job)
    assert len(seen.tasks) == 2
    assert tuple(seen.frozen) == BEFORE[kind]
    # In eval mode at every step, after the loop has put what learns into train mode.
    assert not any(seen.modes)
    assert all(seen.same_answers)
    (module,), (optimizer,) = seen.wrapped, seen.optimizers
    module.train()
    learning: list[Tensor] = [x for group in optimizer.param_groups for x in group["params"]]
    assert {x.data_ptr() for x in learning} <= tensors(module)
    for name, network in seen.frozen.items():
        assert not any(part.training for part in network.modules())
        assert not set(network.modules()) & set(module.modules())
        assert not tensors(network) & tensors(module)
        assert not any(x.requires_grad or x.grad is not None for x in network.parameters())
        before, after = read_weights(job.frozen[name]), network.state_dict()
        assert before.keys() == after.keys()
        for tensor, value in after.items():
            assert torch.equal(value, before[tensor]), f"{name} {tensor}"


def test_in_train_mode_a_batch_norm_of_a_frozen_network_would_move_without_any_gradient(
    seen: Seen, shard_set: ShardSet, trained_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that eval mode is needed: in train mode batch norms change without a gradient."""
    condition = MapTask.condition

    def in_train_mode(self: MapTask, batch: Batch) -> Condition:
        self.chain.segmentation.train()
        return condition(self, batch)

    monkeypatch.setattr(MapTask, "condition", in_train_mode)
    job = job_for("height", shards=shard_set, donors=trained_runs, runs=tmp_path)
    launch_local(job)
    before, after = read_weights(job.frozen["segformer"]), seen.frozen["segformer"].state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {
        f"decoder.norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert not all(seen.same_answers)

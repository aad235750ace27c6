"""A generator and its critic: the smallest task of two players, on real batches.

``python -m tests.train.twoplayers SHARDS FOLDER STEP`` trains it, and kills its own process in the critic's
turn of a step.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.draws.batch import Batch
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.data.draws.plan import PlanRequest, make_plan
from pbrlib.data.shards.reader import ShardSet
from pbrlib.losses.collectives import all_reduce_sum
from pbrlib.losses.recipe import LossReport
from pbrlib.metrics.images import map_metrics
from pbrlib.metrics.sums import Sums
from pbrlib.optim.optimizerspec import AdamWSpec
from pbrlib.optim.schedules import ConstantSpec, CosineSpec
from pbrlib.train.checkpoint.state import State
from pbrlib.train.judge import Judge
from pbrlib.train.loop import train_phase
from pbrlib.train.phase import PhaseRun, PlayerRun
from pbrlib.train.runtime import LocalRuntime, Runtime
from pbrlib.train.runtimespec import RuntimeSpec, Selection
from pbrlib.train.task import Turn, Turns
from pbrlib.train.validation import load_validation

MAPS = ("diffuse", "albedo", "normal", "roughness", "metallic", "ao")
STEPS_PER_EPOCH, EPOCHS, WAKES = 4, 2, 4
"""The critic starts after the first epoch."""
GENERATOR, CRITIC = "generator", "critic"
SELECTION = Selection(metric="val/all/albedo/l1", mode="min")


class Layers(nn.Sequential):
    """A sequence of modules with a network's interface."""

    label = "toy"


def layers(*channels: int, seed: int, dropout: float = 0.0) -> Layers:
    """Return two convolutions with weights from a seed."""
    generator = torch.Generator().manual_seed(seed)
    first, middle, last = channels
    # A last bias of the critic would have a gradient of rounding alone: its two terms cancel there.
    network = Layers(
        nn.Conv2d(first, middle, 3, padding=1),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Conv2d(middle, last, 3, bias=False),
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return network


@dataclass(frozen=True)
class Colours:
    """The generator's example: input, true albedo, and whether the critic's loss is used."""

    x: Tensor
    albedo: Tensor
    is_judged: bool


@dataclass(frozen=True)
class Pair:
    """The critic's example: true and generated albedo."""

    true: Tensor
    made: Tensor


class Generates(nn.Module):
    """The generator with its loss: L1 and the critic's output."""

    def __init__(self, network: nn.Module, judge: Any) -> None:
        super().__init__()
        self.network = network
        self.judge = judge

    def forward(self, example: Colours, counts: Tensor | None, progress: float) -> LossReport:
        made = self.network(example.x).sigmoid()
        sums = {"l1": (made - example.albedo).abs().sum()}
        if example.is_judged:
            sums["adversarial"] = -self.judge(made).sum()
        return report_of(sums, counts_of(example), counts, outputs=made.detach())


class Judges(nn.Module):
    """The critic with its loss, a hinge."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, example: Pair, counts: Tensor | None, progress: float) -> LossReport:
        true, made = self.network(example.true), self.network(example.made)
        sums = {"true": torch.relu(1 - true).sum(), "made": torch.relu(1 + made).sum()}
        return report_of(sums, counts_of(example), counts)


def report_of(
    sums: Mapping[str, Tensor], counts: Tensor, of_step: Tensor | None, *, outputs: Any = None
) -> LossReport:
    """Means over the step, exact over ranks and micro-batches."""
    own = torch.stack([*sums.values()])
    whole = all_reduce_sum(torch.cat([own, counts[: len(own)]]))
    values = whole[: len(own)] / (whole[len(own) :] if of_step is None else of_step[: len(own)])
    weights = torch.tensor([1.0 if name != "adversarial" else 0.05 for name in sums])
    terms = {name: value.detach() for name, value in zip(sums, values, strict=True)}
    return LossReport((weights * values).sum(), terms, outputs)


def counts_of(example: Colours | Pair) -> Tensor:
    """Return the values that each term sums."""
    match example:
        case Colours(albedo=albedo):
            height, width = (side - 2 for side in albedo.shape[-2:])
            return torch.tensor([float(albedo.numel()), float(len(albedo) * height * width)])
        case Pair(true=true):
            height, width = (side - 2 for side in true.shape[-2:])
            return torch.tensor([float(len(true) * height * width)] * 2)


@dataclass
class ToyPlayer:
    """A network of two convolutions and the module that ends in its loss."""

    name: str
    network: nn.Module
    module: nn.Module

    @property
    def declaration(self) -> Mapping[str, Any]:
        return {"role": self.name}

    def counts(self, example: Any) -> Tensor:
        return counts_of(example)


class TwoPlayers:
    """Predicts the albedo from the diffuse; the critic distinguishes true from generated albedo."""

    def __init__(self, *, dropout: float = 0.0, judge: Any = Judge) -> None:
        make = Layers(nn.ReflectionPad2d(1), layers(3, 4, 3, seed=1, dropout=dropout))
        critic = layers(3, 4, 1, seed=2)
        self.players = (
            ToyPlayer(GENERATOR, make, Generates(make, judge(critic))),
            ToyPlayer(CRITIC, critic, Judges(critic)),
        )

    def turns(self, batch: Batch, *, awake: Collection[str]) -> Turns:
        albedo = batch.maps["albedo"]
        report = yield Turn(GENERATOR, Colours(batch.maps["diffuse"], albedo, CRITIC in awake))
        if CRITIC in awake:
            yield Turn(CRITIC, Pair(albedo, report.outputs))

    def evaluate(self, batch: Batch) -> Sums:
        made = self.players[0].network(batch.maps["diffuse"]).sigmoid()
        return map_metrics(made, batch.maps["albedo"], batch.valid, prefix="albedo")

    def picture(self, batch: Batch) -> Tensor:
        return batch.maps["albedo"][0]


def run_of(directory: Path, shards: ShardSet, *, wakes: int = WAKES, **runtime: Any) -> PhaseRun:
    """Eight steps of six draws, in two micro-batches each, with a checkpoint after four."""
    request = PlanRequest(
        mix={"generated": 1.0}, crop=32, batch=6, epochs=EPOCHS, maps=("albedo", "normal"),
        balance=BalanceSpec(), seed=5, phase="G1", steps_per_epoch=STEPS_PER_EPOCH,
    )  # fmt: skip
    return PhaseRun(
        name="G1",
        fingerprint="f" * 64,
        seed=5,
        directory=directory,
        plan=make_plan(shards.rows, request),
        maps=MAPS,
        segment_steps=STEPS_PER_EPOCH,
        micro_batches=2,
        augment=AugmentSpec(flip=True),
        players={
            GENERATOR: PlayerRun(AdamWSpec(lr=1e-2), ConstantSpec(), grad_clip=1.0),
            CRITIC: PlayerRun(AdamWSpec(lr=2e-2), CosineSpec(final=1e-3), grad_clip=0.5, start_step=wakes),
        },
        selection=SELECTION,
        frozen={},
        runtime=RuntimeSpec(workers=1, **runtime),
    )


def train(run: PhaseRun, task: TwoPlayers, runtime: Runtime) -> State:
    """Train the phase from its newest checkpoint to its end."""
    rank, world = runtime.rank, runtime.world_size
    validation = load_validation(runtime.shards, maps=MAPS, required=["albedo"], rank=rank, world=world)
    return train_phase(run, task, runtime, validation=validation)


def alone(directory: Path, shards: ShardSet) -> LocalRuntime:
    """Return a runtime of one process."""
    directory.mkdir(parents=True, exist_ok=True)
    return LocalRuntime(shards, directory, SELECTION, torch.device("cpu"))


def main(shards: str, folder: str, step: str) -> None:
    """Train until the critic's turn of a step, and stop there with an error."""
    given, directory = ShardSet.open(shards), Path(folder)
    task = TwoPlayers(dropout=0.3)
    seen = {"turns": 0}

    def count(module: nn.Module, *given: object) -> None:
        seen["turns"] += 1
        if seen["turns"] == 2 * (int(step) - WAKES) + 1:  # two micro-batches a turn
            os.kill(os.getpid(), signal.SIGKILL)

    task.players[1].module.register_forward_pre_hook(count)
    train(run_of(directory, given), task, alone(directory, given))


if __name__ == "__main__":
    main(*sys.argv[1:])

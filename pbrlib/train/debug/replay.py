"""Replays one optimizer step of several ranks in one process, one rank after the other.

The collectives are emulated: every rank runs its forward pass twice, first to compute its sums, then with the
sums of all ranks. Sums are added in the order of the ranks. On a CPU with two ranks the result equals that of
training bit for bit; more ranks may have added in another order, and batch norms that were synchronised on
GPUs use each rank's part alone here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbrlib.data.draws.batch import Batch
from pbrlib.losses.collectives import summed_by
from pbrlib.losses.recipe import LossReport
from pbrlib.train.learner import Learner, sum_counts
from pbrlib.train.step import JointTurn, Learners

Gradients = dict[torch.nn.Parameter, Tensor]


@dataclass(frozen=True)
class ReplayedTurn:
    """A turn of a replayed step; the player's parameters hold its gradients, not yet clipped.

    ``examples`` holds the examples of each rank's micro-batches.
    """

    learner: Learner
    number: int
    examples: Sequence[Sequence[Any]]
    report: LossReport


def replay_step(learners: Learners, parts: Sequence[Sequence[Batch]], *, step: int) -> Iterator[ReplayedTurn]:
    """Yield the turns of a step; a turn's player is updated when the next turn is requested.

    The caller clips the gradients with ``learner.clip()`` in between.

    Args:
        learners: The learners in the state before the step, with modules that are not wrapped.
        parts: The micro-batches of each rank.
        step: The number of the step.
    """
    num = len(parts[0])
    turns = learners.begin_step([batch for own in parts for batch in own], step=step)
    turn = learners.advance(turns)
    while turn is not None:
        learner = learners.by_name[turn.player]
        examples = [turn.examples[first : first + num] for first in range(0, len(turn.examples), num)]
        reports = _replay_turn(learner, turn, examples, step=step)
        # Every rank reports the loss over all ranks, so the last rank's reports are enough.
        yield ReplayedTurn(learner, turn.number, examples, LossReport.merge(reports[-num:]))
        learner.update()
        turn = learners.advance(turns, reports)


def _replay_turn(
    learner: Learner, turn: JointTurn, examples: Sequence[Sequence[Any]], *, step: int
) -> list[LossReport]:
    """Run a turn on all ranks; return the loss reports, in the order of ranks and micro-batches."""
    counts = None
    if len(examples[0]) > 1:
        counts = _added([sum_counts(learner.player, own) for own in examples])
    gradients: list[Gradients] = [{} for _ in examples]
    reports: list[list[LossReport]] = [[] for _ in examples]
    for number in range(len(examples[0])):
        place = _Place(learner, counts, step=step, turn=turn.number, number=number)
        column = [own[number] for own in examples]
        summed = place.summed(column) if len(examples) > 1 else None
        for rank, example in enumerate(column):
            _put(learner, gradients[rank])
            report = place.forward(example, summed, rank=rank, of=len(examples))
            torch.autograd.backward(report.total)
            gradients[rank] = _taken(learner)
            reports[rank].append(report.detach())
    _put(learner, _averaged(gradients))
    return [report for own in reports for report in own]


@dataclass(frozen=True)
class _Place:
    """Identifies one micro-batch of a turn; ``counts`` are the step's counts if it has several."""

    learner: Learner
    counts: Tensor | None
    step: int
    turn: int
    number: int

    def summed(self, examples: Sequence[Any]) -> Tensor:
        """Compute the sums and counts over all ranks."""
        own: list[Tensor] = []

        def listen(x: Tensor) -> Tensor:
            own.append(x.detach())
            return x

        # Gradients stay enabled, although they are not used: without them other kernels may run.
        for rank, example in enumerate(examples):
            self._seed(rank)
            with summed_by(listen):
                self.learner.forward(example, self.counts, step=self.step)
        return _added(own)

    def forward(self, example: Any, summed: Tensor | None, *, rank: int, of: int) -> LossReport:
        """Compute the loss report of one rank."""

        def answer(x: Tensor) -> Tensor:
            total: Tensor = x if summed is None else _Summed.apply(x, summed, of)
            return total

        self._seed(rank)
        with summed_by(answer):
            return self.learner.forward(example, self.counts, step=self.step)

    def _seed(self, rank: int) -> None:
        self.learner.seed(self.step, turn=self.turn, micro=self.number, rank=rank)


class _Summed(torch.autograd.Function):
    """Emulates the all-reduce in the forward and backward pass; all ranks have equal gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, summed: Tensor, ranks: int) -> Tensor:
        ctx.ranks = ranks
        return summed.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return _added([gradient] * ctx.ranks), None, None


def _added(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total += tensor
    return total


def _put(learner: Learner, gradients: Gradients) -> None:
    for parameter in learner.player.network.parameters():
        parameter.grad = gradients.get(parameter)


def _taken(learner: Learner) -> Gradients:
    own = learner.player.network.parameters()
    return {parameter: parameter.grad for parameter in own if parameter.grad is not None}


def _averaged(gradients: Sequence[Gradients]) -> Gradients:
    """Average over the ranks in DDP's order: divide each gradient first, then add."""
    share = 1.0 / len(gradients)
    return {parameter: _added([own[parameter] * share for own in gradients]) for parameter in gradients[0]}

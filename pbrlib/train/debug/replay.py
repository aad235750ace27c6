"""One optimizer step of several ranks, taken again in one process, one rank after the other.

What the ranks would have said to each other is worked out beforehand: every rank runs its forward pass
twice, first to give its sums, then with those of all. Sums are added in the order of the ranks. On a CPU and
with two ranks that is bit for bit what they computed; more ranks may have added in another order, and batch
norms that were synchronised on GPUs see each rank's part alone here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pbrlib.data.draws.batch import Batch
from pbrlib.losses.collectives import summed_by
from pbrlib.losses.recipe import LossReport
from pbrlib.train.learner import Learner, sum_counts
from pbrlib.train.task import Example, Task

Gradients = dict[torch.nn.Parameter, Tensor]


def replay_step(learner: Learner, task: Task, parts: Sequence[Sequence[Batch]], *, step: int) -> LossReport:
    """The loss of a step; the gradients stand in the parameters, not yet clipped.

    Args:
        learner: In the state before the step, with nothing around its module.
        task: Prepares the batches.
        parts: The micro-batches of each rank.
        step: Its number.
    """
    learner.set_out(step)
    examples = [learner.prepare(task, micro) for micro in parts]
    counts = None
    if len(parts[0]) > 1:
        counts = _added([sum_counts(learner.player, own) for own in examples])
    gradients: list[Gradients] = [{} for _ in parts]
    reports = []
    for number in range(len(parts[0])):
        column = [own[number] for own in examples]
        summed = _summed(learner, column, counts, step=step, number=number) if len(parts) > 1 else None
        for rank, example in enumerate(column):
            _put(learner, gradients[rank])
            report = _forward(learner, example, counts, summed, step=step, number=number, rank=rank, of=parts)
            torch.autograd.backward(report.total)
            gradients[rank] = _taken(learner)
        reports.append(report)
    _put(learner, _averaged(gradients))
    return LossReport.merge(reports)


def _summed(
    learner: Learner, examples: Sequence[Example], counts: Tensor | None, *, step: int, number: int
) -> Tensor:
    """What the ranks' sums and counts of one micro-batch add up to."""
    own: list[Tensor] = []

    def listen(x: Tensor) -> Tensor:
        own.append(x.detach())
        return x

    # With gradients, though nobody asks for them: without, other kernels may run.
    for rank, example in enumerate(examples):
        learner.seed(step, micro=number, rank=rank)
        with summed_by(listen):
            learner.forward(example, counts, step=step)
    return _added(own)


def _forward(
    learner: Learner,
    example: Example,
    counts: Tensor | None,
    summed: Tensor | None,
    *,
    step: int,
    number: int,
    rank: int,
    of: Sequence[object],
) -> LossReport:
    learner.seed(step, micro=number, rank=rank)

    def answer(x: Tensor) -> Tensor:
        total: Tensor = x if summed is None else _Summed.apply(x, summed, len(of))
        return total

    with summed_by(answer):
        return learner.forward(example, counts, step=step)


class _Summed(torch.autograd.Function):
    """The sum over the ranks in both directions, all of whose gradients are equal."""

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
    """The mean over the ranks, as DDP takes it: each share first, then their sum."""
    share = 1.0 / len(gradients)
    return {parameter: _added([own[parameter] * share for own in gradients]) for parameter in gradients[0]}

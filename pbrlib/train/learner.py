"""A player while it learns: its optimizer, its wrapped module, and one step of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.data.draws.batch import Batch
from pbrlib.errors import NumericsError, PbrError
from pbrlib.losses.recipe import LossReport
from pbrlib.optim.groups import build_optimizer, frozen_modules
from pbrlib.optim.schedules import apply_rates
from pbrlib.seeds import mix
from pbrlib.train.failedstep import StepRecord, keep_failed_step
from pbrlib.train.phase import PhaseRun
from pbrlib.train.runtime import Runtime
from pbrlib.train.task import Example, Player, Task


class Learner:
    """A player with its optimizer and its wrapped module."""

    def __init__(self, run: PhaseRun, player: Player, runtime: Runtime) -> None:
        player.network.to(runtime.device)
        if run.runtime.channels_last:
            player.network.to(memory_format=torch.channels_last)
        self.run, self.player, self.runtime = run, player, runtime
        self.optimizer = build_optimizer(player.network, run.optimizer)
        if run.runtime.compile:
            player.network.compile()
        self.module = runtime.wrap(player.module.to(runtime.device))
        # After the wrapping, which may have put other batch norms in the place of these.
        self.frozen = frozen_modules(player.network, run.optimizer)

    def step(self, task: Task, micro: Sequence[Batch], *, step: int) -> LossReport:
        """One optimizer step over the micro-batches of this rank."""
        self.set_out(step)
        examples = self.prepare(task, micro)
        counts = None
        if len(examples) > 1:
            counts = self.runtime.all_reduce(sum_counts(self.player, examples))
        reports = []
        for number, example in enumerate(examples):
            self.seed(step, micro=number, rank=self.runtime.rank)
            last = number == len(examples) - 1
            with self._sync(last):
                report = self.forward(example, counts, step=step)
                torch.autograd.backward(report.total)
            reports.append(report)
        total = LossReport.merge(reports)
        norm = self.clip()
        self._check(total, norm, micro, step)
        self.update()
        return total

    def set_out(self, step: int) -> None:
        """Sets modes and rates for a step."""
        self.player.module.train()
        for module in self.frozen:
            module.eval()
        self.rates = apply_rates(
            self.optimizer,
            self.run.schedule,
            step=step,
            total_steps=self.run.plan.total_steps,
            steps_per_epoch=self.run.plan.steps_per_epoch,
        )

    def prepare(self, task: Task, micro: Sequence[Batch]) -> list[Example]:
        """The micro-batches as the network sees them."""
        with self.autocast():
            return [task.prepare(batch, training=True) for batch in micro]

    def seed(self, step: int, *, micro: int, rank: int) -> None:
        """Seeds what the network draws, such as dropout, in one micro-batch of one rank."""
        torch.manual_seed(mix(self.run.seed, self.run.name, step, micro, rank))

    def forward(self, example: Example, counts: Tensor | None, *, step: int) -> LossReport:
        """The loss of one micro-batch; ``counts`` are those of a step of several."""
        with self.autocast():
            report: LossReport = self.module(example, counts, step / max(self.run.plan.total_steps - 1, 1))
        return report

    def clip(self) -> Tensor:
        """Limits the gradients and gives their norm before that."""
        return nn.utils.clip_grad_norm_(_trainable(self.player.network), self.run.grad_clip)

    def update(self) -> None:
        """Lets the optimizer step, and forgets the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _sync(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged in the backward pass of the last micro-batch only."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.module.no_sync()
        return context

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of forward passes."""
        if self.run.runtime.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.runtime.device.type, dtype=torch.bfloat16)

    def _check(self, report: LossReport, norm: Tensor, micro: Sequence[Batch], step: int) -> None:
        """One look at two numbers; their tensors are read only when something is wrong."""
        if bool(torch.isfinite(report.total.detach() + norm)):
            return
        terms = [name for name, value in report.terms.items() if not math.isfinite(float(value))]
        # Loss and gradient are the same on every rank, so all of them come here together.
        parts = self.runtime.gather([sample for batch in micro for sample in batch.ids])
        if self.runtime.rank == 0:
            values = {"total": report.total, "norm": norm, **report.terms}
            figures = {name: float(value) for name, value in values.items()}
            location = str(self.runtime.shards.location)
            self._keep(StepRecord(step, data=location, samples=parts, figures=figures))
        # The first rank that ends ends them all, so they wait until the state is written.
        self.runtime.gather([])
        ids = sorted({sample for part in parts for sample in part})
        raise NumericsError(
            f"phase {self.run.name}, step {step}: the "
            f"{'loss' if terms else 'gradient'} is not finite. Terms: {', '.join(terms) or 'all finite'}. "
            f"Samples: {', '.join(ids)}. Lower the learning rate, or look closer: "
            f"`pbr debug-step {self.run.directory.parent} --phase {self.run.name}` replays the step."
        )

    def _keep(self, record: StepRecord) -> None:
        # The optimizer has not stepped. Batch norms have moved their running figures, which nothing reads
        # while it trains: those that are frozen, and read them, do not move.
        with suppress(PbrError, OSError):  # a full disk must not hide what is wrong
            keep_failed_step(self.run, self.player, self.optimizer, record)


def sum_counts(player: Player, examples: Sequence[Example]) -> Tensor:
    """What each loss term averages over in a whole step of this rank. Shape (terms,)."""
    return torch.stack([player.counts(example) for example in examples]).sum(dim=0)


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]

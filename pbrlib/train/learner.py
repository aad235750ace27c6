"""A player while it learns: its optimizer, its wrapped module, and one step of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.data.batch import Batch
from pbrlib.errors import NumericsError
from pbrlib.losses.recipe import LossReport
from pbrlib.optim.groups import build_optimizer, frozen_modules
from pbrlib.optim.schedules import apply_rates
from pbrlib.seeds import mix
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
        run = self.run
        self.player.module.train()
        for module in self.frozen:
            module.eval()
        rates = apply_rates(
            self.optimizer,
            run.schedule,
            step=step,
            total_steps=run.plan.total_steps,
            steps_per_epoch=run.plan.steps_per_epoch,
        )
        self.rates = rates
        with self._autocast():
            examples = [task.prepare(batch, training=True) for batch in micro]
        counts = None
        if len(examples) > 1:
            counts = self.runtime.all_reduce(sum_counts(self.player, examples))
        reports, progress = [], step / max(run.plan.total_steps - 1, 1)
        for number, example in enumerate(examples):
            torch.manual_seed(mix(run.seed, run.name, step, number, self.runtime.rank))
            last = number == len(examples) - 1
            with self._sync(last), self._autocast():
                report: LossReport = self.module(example, counts, progress)
            with self._sync(last):
                torch.autograd.backward(report.total)
            reports.append(report)
        total = LossReport.merge(reports)
        norm = nn.utils.clip_grad_norm_(_trainable(self.player.network), run.grad_clip)
        self._check(total, norm, micro, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _sync(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged in the backward pass of the last micro-batch only."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.module.no_sync()
        return context

    def _autocast(self) -> AbstractContextManager[object]:
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
        ids = sorted({sample for part in parts for sample in part})
        raise NumericsError(
            f"phase {self.run.name}, step {step}: the "
            f"{'loss' if terms else 'gradient'} is not finite. Terms: {', '.join(terms) or 'all finite'}. "
            f"Samples: {', '.join(ids)}. "
            "Lower the learning rate, or look at these samples with `pbr shards inspect`."
        )


def sum_counts(player: Player, examples: Sequence[Example]) -> Tensor:
    """What each loss term averages over in a whole step of this rank. Shape (terms,)."""
    return torch.stack([player.counts(example) for example in examples]).sum(dim=0)


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]

"""The training state of a player (optimizer and DDP module) and the operations of one turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.losses.recipe import LossReport
from pbrlib.optim.groups import build_optimizer, frozen_modules
from pbrlib.optim.schedules import apply_rates
from pbrlib.seeds import mix
from pbrlib.train.phase import PhaseRun
from pbrlib.train.runtime import Runtime
from pbrlib.train.task import Player


class Learner:
    """A player with its optimizer and its module, wrapped by DDP."""

    def __init__(self, run: PhaseRun, player: Player, runtime: Runtime) -> None:
        player.network.to(runtime.device)
        if run.runtime.channels_last:
            player.network.to(memory_format=torch.channels_last)
        self.run, self.player, self.runtime = run, player, runtime
        self.own = run.players[player.name]
        self.optimizer = build_optimizer(player.network, self.own.optimizer)
        if run.runtime.compile:
            player.network.compile()
        self.module = runtime.wrap(player.module.to(runtime.device))
        # Computed after wrapping, which can replace batch norms by synchronised ones.
        self.frozen = frozen_modules(player.network, self.own.optimizer)
        # A player before its start step is in eval mode, as after a validation.
        player.module.eval()
        self.rates: dict[str, float] = {}
        self.gradient_norm: Tensor | None = None

    def is_awake(self, step: int) -> bool:
        """Return whether the player trains in a step of the phase."""
        return step >= self.own.start_step

    def begin_step(self, step: int) -> None:
        """Set train and eval modes and learning rates for a step."""
        self.player.module.train()
        for module in self.frozen:
            module.eval()
        self.rates = apply_rates(
            self.optimizer,
            self.own.schedule,
            step=step - self.own.start_step,
            total_steps=self._total_steps,
            steps_per_epoch=self.run.plan.steps_per_epoch,
        )

    def accumulate(self, examples: Sequence[Any], *, step: int, turn: int) -> list[LossReport]:
        """Accumulate the gradients of a turn over this rank's micro-batches; return their loss reports."""
        counts = None
        if len(examples) > 1:
            counts = self.runtime.all_reduce(sum_counts(self.player, examples))
        reports = []
        for number, example in enumerate(examples):
            self.seed(step, turn=turn, micro=number, rank=self.runtime.rank)
            last = number == len(examples) - 1
            with self._sync(last):
                report = self.forward(example, counts, step=step)
                torch.autograd.backward(report.total)
            reports.append(report.detach())
        return reports

    def seed(self, step: int, *, turn: int, micro: int, rank: int) -> None:
        """Seed torch's generator, which dropout uses, for one micro-batch of one rank."""
        later = () if turn == 0 else ("turn", turn)
        torch.manual_seed(mix(self.run.seed, self.run.name, step, micro, rank, *later))

    def forward(self, example: Any, counts: Tensor | None, *, step: int) -> LossReport:
        """Compute the loss of one micro-batch; ``counts`` are the step's counts if it has several."""
        progress = (step - self.own.start_step) / max(self._total_steps - 1, 1)
        with autocast(self.run, self.runtime.device):
            report: LossReport = self.module(example, counts, progress)
        return report

    def clip(self) -> Tensor:
        """Clip the gradients; return their norm before clipping and keep it for the journal."""
        learning = [parameter for parameter in self.player.network.parameters() if parameter.requires_grad]
        self.gradient_norm = nn.utils.clip_grad_norm_(learning, self.own.grad_clip)
        return self.gradient_norm

    def update(self) -> None:
        """Step the optimizer and reset the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def has_gradient(self) -> bool:
        """Whether any parameter has a gradient."""
        return any(parameter.grad is not None for parameter in self.player.network.parameters())

    @property
    def _total_steps(self) -> int:
        """The number of steps of the phase from the player's start step on."""
        return self.run.plan.total_steps - self.own.start_step

    def _sync(self, last: bool) -> AbstractContextManager[None]:
        """Return a context in which DDP averages gradients only for the last micro-batch."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.module.no_sync()
        return context


def sum_counts(player: Player, examples: Sequence[Any]) -> Tensor:
    """Sum the denominators of the loss terms over this rank's micro-batches. Shape (terms,)."""
    return torch.stack([player.counts(example) for example in examples]).sum(dim=0)


def autocast(run: PhaseRun, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of forward passes."""
    if run.runtime.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)

"""The loss of a phase: a weighted sum of terms, exact over ranks and, for means, over micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.losses.base import Term
from pbrlib.losses.collectives import all_reduce_sum
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.target import LossContext, LossTarget, Output
from pbrlib.losses.termmodules import module_of


@dataclass(frozen=True)
class LossReport:
    """The loss of one forward pass over all ranks, equal on every rank.

    Attributes:
        total: What to differentiate.
        terms: The terms by name, unweighted and detached.
        outputs: What the task's next turn learns from, detached; opaque to the loop.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Tensor]
    outputs: Any = None

    def detach(self) -> LossReport:
        """The report without what it was computed from."""
        return replace(self, total=self.total.detach())

    @staticmethod
    def merge(reports: Sequence[LossReport]) -> LossReport:
        """The report of a step from those of its micro-batches, detached: each is a share of the whole."""
        names = reports[0].terms
        return LossReport(
            total=torch.stack([report.total.detach() for report in reports]).sum(),
            terms={name: torch.stack([report.terms[name] for report in reports]).sum() for name in names},
        )


class Recipe(nn.Module):
    """The terms of a :class:`LossSpec` as one loss.

    Sums and counts of all terms travel in one all-reduce, sum forward and sum backward, so that n workers
    with parts of a batch, equal or not, have the loss and (after DDP's mean) the gradient of one worker.
    Runs in float32 whatever autocast says.
    """

    def __init__(self, spec: LossSpec, context: LossContext | None = None) -> None:
        super().__init__()
        context = context or LossContext()
        modules = [module_of(term)(term, context, name=name) for name, term in spec.terms().items()]
        self.spec = spec
        self.terms = nn.ModuleList(modules)

    def _terms(self) -> list[Term]:
        return [term for term in self.terms if isinstance(term, Term)]

    def counts(self, target: LossTarget) -> Float[Tensor, " counts"]:
        """What the terms average over in this rank's batch, from the target alone.

        Summed over micro-batches and ranks, this is the ``step_counts`` of each forward pass.
        """
        return torch.cat([term.counts(target).float() for term in self._terms()])

    def forward(
        self,
        logits: Float[Tensor, "n c h w"],
        target: LossTarget,
        *,
        step_counts: Float[Tensor, " counts"] | None = None,
        progress: float = 0.0,
    ) -> LossReport:
        """The loss of one micro-batch. A collective: every rank calls it.

        Args:
            logits: What the network returned.
            target: What it should have returned.
            step_counts: The counts of the whole step; None where the step is this one micro-batch. With
                them, total and terms are the micro-batch's share: those of a step add up to its loss.
                Dice and FocalTversky are taken per micro-batch and shared by samples.
            progress: How far the phase is, 0 at its first step, 1 at its last; moves moving weights.
        """
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float()
            return self._report(Output(logits), target, step_counts=step_counts, progress=progress)

    @torch.no_grad()
    def measure(
        self, logits: Float[Tensor, "n c h w"], target: LossTarget
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the loss of a batch of this rank alone, and 1 where any pixel counts in it, else 0.

        No collective, so that ranks can validate different numbers of textures. Weights that move have their
        values of the last step.
        """
        with torch.autocast(logits.device.type, enabled=False):
            output = Output(logits.float())
            counts = [term.counts(target).float() for term in self._terms()]
            values = [
                term.weight(1.0) * term.value(term.sums(output, target), count, count)
                for term, count in zip(self._terms(), counts, strict=True)
            ]
            return torch.stack(values).sum(), (torch.cat(counts).sum() > 0).float()

    def _report(
        self, output: Output, target: LossTarget, *, step_counts: Tensor | None, progress: float
    ) -> LossReport:
        terms = self._terms()
        local = [term.sums(output, target) for term in terms]
        local += [term.counts(target).to(output.logits.dtype) for term in terms]
        reduced = torch.split(all_reduce_sum(torch.cat(local)), [len(part) for part in local])
        sums, counts = reduced[: len(terms)], reduced[len(terms) :]
        whole = counts
        if step_counts is not None:
            whole = torch.split(step_counts.to(output.logits), [len(part) for part in counts])
        values = [term.value(*parts) for term, *parts in zip(terms, sums, counts, whole, strict=True)]
        weighted = [term.weight(progress) * value for term, value in zip(terms, values, strict=True)]
        return LossReport(
            total=torch.stack(weighted).sum(),
            terms={term.name: value.detach() for term, value in zip(terms, values, strict=True)},
        )

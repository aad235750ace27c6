"""The loss of a phase: a weighted sum of terms, exact over ranks and (for means) over micro-batches."""

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
        total: The weighted sum, to call ``backward`` on.
        terms: The terms by name, unweighted and detached.
        outputs: Detached data for the task's next turn; the loop does not look inside.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Tensor]
    outputs: Any = None

    def detach(self) -> LossReport:
        """Return the report without its autograd graph."""
        return replace(self, total=self.total.detach())

    @staticmethod
    def merge(reports: Sequence[LossReport]) -> LossReport:
        """Add up the reports of a step's micro-batches, detached; each is a share of the step's loss."""
        names = reports[0].terms
        return LossReport(
            total=torch.stack([report.total.detach() for report in reports]).sum(),
            terms={name: torch.stack([report.terms[name] for report in reports]).sum() for name in names},
        )


class Recipe(nn.Module):
    """Computes the loss of a :class:`LossSpec`.

    One all-reduce adds the sums and counts of all terms, and its backward pass adds the gradients. So n
    workers with shares of a batch, equal or not, get the loss and (after DDP's mean) the gradient of one
    worker with the whole batch. The loss is computed in float32, with autocast off.
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
        """Return the denominators of all terms for this rank's batch; they depend on the target only.

        Summed over micro-batches and ranks, they are the ``step_counts`` of each forward pass.
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
        """Compute the loss of one micro-batch. This is a collective: every rank must call it.

        Args:
            logits: The network's logits.
            target: The target to compare with.
            step_counts: The counts of the whole step; None if the step has one micro-batch. With them, total
                and terms are the micro-batch's share, and the shares of a step add up to its loss. Dice and
                FocalTversky are computed per micro-batch and weighted by samples.
            progress: Progress of the phase, 0 at its first step, 1 at its last, for changing weights.
        """
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float()
            return self._report(Output(logits), target, step_counts=step_counts, progress=progress)

    @torch.no_grad()
    def measure(
        self, logits: Float[Tensor, "n c h w"], target: LossTarget
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the loss of this rank's batch, and 1 if any pixel counts in it, else 0.

        This is no collective, so that ranks can validate different numbers of textures. Changing weights have
        their values of the last step.
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

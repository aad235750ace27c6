"""What every term of a loss is: counts, sums, and a value from global sums; a mean or a ratio."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from pbrlib.losses.target import LossContext, LossTarget, Output


class Term(nn.Module):
    """One term of a loss, split so that sums and counts can be added up over ranks and micro-batches."""

    def __init__(self, spec: Any, context: LossContext, *, name: str) -> None:
        super().__init__()
        self.spec, self.name = spec, name

    def weight(self, progress: float) -> float:
        """The weight at a point of the phase, 0 its first step, 1 its last."""
        weight: float = self.spec.weight
        return weight

    @abstractmethod
    def counts(self, target: LossTarget) -> Float[Tensor, " counts"]:
        """What the term averages over in this batch, from the target alone."""

    @abstractmethod
    def sums(self, output: Output, target: LossTarget) -> Float[Tensor, " sums"]:
        """Differentiable sums over this batch."""

    @abstractmethod
    def value(
        self,
        sums: Float[Tensor, " sums"],
        counts: Float[Tensor, " counts"],
        step_counts: Float[Tensor, " counts"],
    ) -> Float[Tensor, ""]:
        """The part of these sums in the value of the step; the whole of it where the counts are equal."""


class MeanTerm(Term):
    """A term that is a sum of means; exact over any split of a step."""

    def value(self, sums: Tensor, counts: Tensor, step_counts: Tensor) -> Tensor:
        """The sums over the counts of the step."""
        return (sums / step_counts.clamp_min(1.0)).sum()


class RatioTerm(Term):
    """A ratio of sums over a micro-batch of all ranks, which counts by its samples."""

    def counts(self, target: LossTarget) -> Tensor:
        """The samples with a pixel that counts."""
        return counted_samples(target).sum().float().view(1)

    def value(self, sums: Tensor, counts: Tensor, step_counts: Tensor) -> Tensor:
        """The ratio, times the share of the step's samples."""
        return self._ratio(sums) * (counts / step_counts.clamp_min(1.0)).sum()

    @abstractmethod
    def _ratio(self, sums: Tensor) -> Tensor: ...


def counted_samples(target: LossTarget) -> Bool[Tensor, " n"]:
    """Which samples have a pixel that counts."""
    return target.valid.flatten(1).any(dim=1)

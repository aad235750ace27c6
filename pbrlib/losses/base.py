"""What every term of a loss is: counts, sums, and a value from global sums; a mean or a ratio.

Pure functions of terms give errors per pixel; the value of such a term is the sum over its parts of
``sum(error * weight) / sum(weight)``. A weight is 0 wherever a pixel that does not count has a part in the
error, so such a pixel touches neither the value nor the gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pbrlib.losses.target import LossContext, LossTarget, Output

LEAST_POWER_BASE = 1e-6
"""``1 - p_t`` before a focal power: below gamma 1 the slope at 0 is infinite."""


def mean(errors: Sequence[Tensor], weights: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The value of a term: the sum of the weighted means of its parts; a part without weight gives 0."""
    totals, counts = weighted_totals(errors, weights), weight_totals(weights, channels=errors[0].shape[1])
    return (totals / counts.clamp_min(1.0)).sum()


def weighted_totals(errors: Sequence[Tensor], weights: Sequence[Tensor]) -> Float[Tensor, " parts"]:
    """Sum of the weighted errors of each part."""
    return torch.stack([(error * weight).sum() for error, weight in zip(errors, weights, strict=True)])


def weight_totals(weights: Sequence[Tensor], *, channels: int) -> Float[Tensor, " parts"]:
    """What each part averages over: the sum of its weights, once a channel."""
    return torch.stack([weight.sum().to(torch.get_default_dtype()) * channels for weight in weights])


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


class PixelTerm(MeanTerm):
    """Errors per pixel with the weights that average them; by default one part, over the valid pixels."""

    def counts(self, target: LossTarget) -> Tensor:
        """The weights of each part, once a channel."""
        return weight_totals(self._weights(target), channels=target.image.shape[1])

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """The weighted errors of each part."""
        return weighted_totals(self._errors(output, target), self._weights(target))

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (target.valid,)

    @abstractmethod
    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]: ...


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

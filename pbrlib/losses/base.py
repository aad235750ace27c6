"""Base classes of loss terms, which split a value into sums and counts that add up over ranks.

The pure function of a pixel term returns errors per pixel; the term's value is the sum over its parts of
``sum(error * weight) / sum(weight)``. The weight is 0 for every error that depends on a masked pixel, so
masked pixels change neither the value nor the gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pbrlib.losses.target import LossContext, LossTarget, Output

MIN_POWER_BASE = 1e-6
"""Lower bound of ``1 - p_t`` before a focal power: with gamma below 1 the slope at 0 is infinite."""


def mean(errors: Sequence[Tensor], weights: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Return a term's value: the sum of the weighted means of its parts; a part without weight is 0."""
    totals, counts = weighted_totals(errors, weights), weight_totals(weights, channels=errors[0].shape[1])
    return (totals / counts.clamp_min(1.0)).sum()


def weighted_totals(errors: Sequence[Tensor], weights: Sequence[Tensor]) -> Float[Tensor, " parts"]:
    """Sum the weighted errors of each part."""
    return torch.stack([(error * weight).sum() for error, weight in zip(errors, weights, strict=True)])


def weight_totals(weights: Sequence[Tensor], *, channels: int) -> Float[Tensor, " parts"]:
    """Sum the weights of each part, times the channels: the denominator of the part's mean."""
    return torch.stack([weight.sum().to(torch.get_default_dtype()) * channels for weight in weights])


class Term(nn.Module):
    """One loss term, as sums and counts that can be added up over ranks and micro-batches."""

    def __init__(self, spec: Any, context: LossContext, *, name: str) -> None:
        super().__init__()
        self.spec, self.name = spec, name

    def weight(self, progress: float) -> float:
        """Return the weight at a progress of the phase: 0 is its first step, 1 its last."""
        weight: float = self.spec.weight
        return weight

    @abstractmethod
    def counts(self, target: LossTarget) -> Float[Tensor, " counts"]:
        """Return the denominators of the term's means for this batch; they depend on the target only."""

    @abstractmethod
    def sums(self, output: Output, target: LossTarget) -> Float[Tensor, " sums"]:
        """Return the differentiable sums of the term over this batch."""

    @abstractmethod
    def value(
        self,
        sums: Float[Tensor, " sums"],
        counts: Float[Tensor, " counts"],
        step_counts: Float[Tensor, " counts"],
    ) -> Float[Tensor, ""]:
        """Return the contribution of ``sums`` to the step's value; all of it if both counts are equal."""


class MeanTerm(Term):
    """A term that is a sum of means; exact for any split of a step into micro-batches."""

    def value(self, sums: Tensor, counts: Tensor, step_counts: Tensor) -> Tensor:
        """Return the sums divided by the counts of the step."""
        return (sums / step_counts.clamp_min(1.0)).sum()


class PixelTerm(MeanTerm):
    """A weighted mean of errors per pixel; by default one part, averaged over the valid pixels."""

    def counts(self, target: LossTarget) -> Tensor:
        """Return the sum of the weights of each part, times the channels."""
        return weight_totals(self._weights(target), channels=target.image.shape[1])

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """Return the sum of the weighted errors of each part."""
        return weighted_totals(self._errors(output, target), self._weights(target))

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (target.valid,)

    @abstractmethod
    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]: ...


class RatioTerm(Term):
    """A ratio of sums over a micro-batch of all ranks, weighted by the number of its samples."""

    def counts(self, target: LossTarget) -> Tensor:
        """Return the number of samples with a valid pixel."""
        return counted_samples(target).sum().float().view(1)

    def value(self, sums: Tensor, counts: Tensor, step_counts: Tensor) -> Tensor:
        """Return the ratio, times the micro-batch's share of the step's samples."""
        return self._ratio(sums) * (counts / step_counts.clamp_min(1.0)).sum()

    @abstractmethod
    def _ratio(self, sums: Tensor) -> Tensor: ...


def counted_samples(target: LossTarget) -> Bool[Tensor, " n"]:
    """Return a mask of the samples that have a valid pixel."""
    return target.valid.flatten(1).any(dim=1)

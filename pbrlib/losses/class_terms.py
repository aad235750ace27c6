"""Terms over classes and areas: entropies, averaged over pixels, and ratios of overlaps."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from pbrlib.losses import segmentation
from pbrlib.losses.base import MeanTerm, RatioTerm
from pbrlib.losses.lossspec import FocalSpec, FocalTverskySpec, TermSpec
from pbrlib.losses.target import LossContext, LossTarget, Output


class _Entropy(MeanTerm):
    """A weighted entropy per pixel, over the number of labelled pixels (not over the sum of weights)."""

    class_weights: Tensor

    def __init__(self, spec: TermSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=name)
        weights = context.class_weights
        weights = torch.ones(len(context.classes)) if weights is None else weights.float()
        self.register_buffer("class_weights", weights, persistent=False)

    def counts(self, target: LossTarget) -> Tensor:
        """The labelled pixels."""
        return target.labelled.sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """The weighted entropy."""
        return (self._entropy(output, target) * target.labelled).sum().view(1)

    @abstractmethod
    def _entropy(self, output: Output, target: LossTarget) -> Tensor: ...


class CrossEntropy(_Entropy):
    """:func:`pbrlib.losses.segmentation.cross_entropy`."""

    def _entropy(self, output: Output, target: LossTarget) -> Tensor:
        return segmentation.cross_entropy(
            output.log_probabilities, target.class_ids, class_weights=self.class_weights
        )


class Focal(_Entropy):
    """:func:`pbrlib.losses.segmentation.focal`."""

    gammas: Tensor

    def __init__(self, spec: FocalSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=name)
        self.register_buffer("gammas", torch.tensor(spec.gammas(context.classes)), persistent=False)

    def _entropy(self, output: Output, target: LossTarget) -> Tensor:
        return segmentation.focal(
            output.log_probabilities, target.class_ids, class_weights=self.class_weights, gammas=self.gammas
        )


class Dice(RatioTerm):
    """:func:`pbrlib.losses.segmentation.dice`."""

    def counts(self, target: LossTarget) -> Tensor:
        """The samples with a labelled pixel."""
        return target.labelled.flatten(1).any(dim=1).sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """:func:`pbrlib.losses.segmentation.dice_sums`."""
        return segmentation.dice_sums(output.log_probabilities, target.class_ids, target.labelled).flatten()

    def _ratio(self, sums: Tensor) -> Tensor:
        return segmentation.dice(sums.view(3, -1))


class FocalTversky(RatioTerm):
    """:func:`pbrlib.losses.segmentation.focal_tversky`."""

    spec: FocalTverskySpec

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """:func:`pbrlib.losses.segmentation.tversky_sums`."""
        return segmentation.tversky_sums(output.image, target.image, target.valid)

    def _ratio(self, sums: Tensor) -> Tensor:
        return segmentation.focal_tversky(
            sums,
            false_positive=self.spec.false_positive,
            false_negative=self.spec.false_negative,
            gamma=self.spec.gamma,
        )

"""Overlap losses (Dice, Focal Tversky): ratios of sums over a micro-batch of all ranks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pbrlib.losses.base import MIN_POWER_BASE, RatioTerm
from pbrlib.losses.lossspec import FocalTverskySpec
from pbrlib.losses.target import LossTarget, Output

POSITIVE = 0.5
"""Soft targets from this value on count as positive, so that storage noise of an empty map does not."""


def dice_sums(
    log_probabilities: Float[Tensor, "n k h w"],
    labels: Int64[Tensor, "n h w"],
    counted: Bool[Tensor, "n h w"],
) -> Float[Tensor, "3 k"]:
    """Sum per class over counted pixels: probability on true pixels, probability, number of true pixels."""
    probabilities = log_probabilities.exp() * counted.unsqueeze(1)
    ids = torch.arange(probabilities.shape[1], device=labels.device).view(1, -1, 1, 1)
    own = (labels.unsqueeze(1) == ids) & counted.unsqueeze(1)
    over = (0, 2, 3)
    return torch.stack(
        ((probabilities * own).sum(over), probabilities.sum(over), own.sum(over).to(probabilities.dtype))
    )


def dice(sums: Float[Tensor, "3 k"]) -> Float[Tensor, ""]:
    """Return the soft Dice loss: the mean over the present classes of ``1 - (2 I + 1) / (P + T + 1)``.

    I, P and T are the rows of :func:`dice_sums`. The value is in [0, 1), and 0 if no class is present.
    """
    shared, predicted, true = sums
    losses = 1.0 - (2.0 * shared + 1.0) / (predicted + true + 1.0)
    present = (true > 0).to(losses.dtype)
    value: Tensor = (losses * present).sum() / present.sum().clamp_min(1.0)
    return value


class Dice(RatioTerm):
    """The soft Dice loss, see :func:`dice`."""

    def counts(self, target: LossTarget) -> Tensor:
        """Return the number of samples with a labelled pixel."""
        return target.labelled.flatten(1).any(dim=1).sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """Return :func:`dice_sums`, flattened."""
        return dice_sums(output.log_probabilities, target.class_ids, target.labelled).flatten()

    def _ratio(self, sums: Tensor) -> Tensor:
        return dice(sums.view(3, -1))


def tversky_sums(
    prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n 1 h w"]
) -> Float[Tensor, " 4"]:
    """Sum soft true positives, false positives and false negatives, and count the positive pixels."""
    prediction, target = prediction * valid, target * valid
    shared = (prediction * target).sum()
    positives = (target >= POSITIVE).sum().to(prediction.dtype)
    return torch.stack((shared, prediction.sum() - shared, target.sum() - shared, positives))


def focal_tversky(
    sums: Float[Tensor, " 4"], *, false_positive: float, false_negative: float, gamma: float
) -> Float[Tensor, ""]:
    """Return ``(1 - TP / (TP + a FP + b FN))^gamma`` (Abraham and Khan 2019); 0 without a positive pixel.

    ``sums`` come from :func:`tversky_sums`. Without a positive pixel the index would be 0 for every
    prediction. ``1 - index`` is at least 1e-6 before the power.
    """
    shared, over, under, positives = sums
    mistakes = false_positive * over + false_negative * under
    wrong = mistakes / (shared + mistakes).clamp_min(MIN_POWER_BASE)
    value: Tensor = wrong.clamp_min(MIN_POWER_BASE).pow(gamma) * (positives > 0)
    return value


class FocalTversky(RatioTerm):
    """The focal Tversky loss, see :func:`focal_tversky`."""

    spec: FocalTverskySpec

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """Return :func:`tversky_sums`."""
        return tversky_sums(output.image, target.image, target.valid)

    def _ratio(self, sums: Tensor) -> Tensor:
        return focal_tversky(
            sums,
            false_positive=self.spec.false_positive,
            false_negative=self.spec.false_negative,
            gamma=self.spec.gamma,
        )

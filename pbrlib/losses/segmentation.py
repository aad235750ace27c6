"""Loss terms over regions and classes: per-pixel entropies, and ratios of sums over the global batch."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pbrlib.losses.terms import LEAST_POWER_BASE

POSITIVE = 0.5
"""The least soft target of a positive pixel: storage noise of an otherwise empty map is no positive."""


def cross_entropy(
    log_probabilities: Float[Tensor, "n k h w"],
    labels: Int64[Tensor, "n h w"],
    *,
    class_weights: Float[Tensor, " k"],
) -> Float[Tensor, "n h w"]:
    """``-w_c log p_t`` per pixel. ``labels`` are in [0, k): replace ignored ones and mask the result."""
    return -class_weights.to(log_probabilities.dtype)[labels] * _of_label(log_probabilities, labels)


def focal(
    log_probabilities: Float[Tensor, "n k h w"],
    labels: Int64[Tensor, "n h w"],
    *,
    class_weights: Float[Tensor, " k"],
    gammas: Float[Tensor, " k"],
) -> Float[Tensor, "n h w"]:
    """``-w_c (1 - p_t)^gamma_c log p_t`` per pixel (Lin et al. 2017), with a gamma for each class.

    ``1 - p_t`` is at least 1e-6 before the power. ``labels`` as in :func:`cross_entropy`.
    """
    log_p = _of_label(log_probabilities, labels)
    wrong = -torch.expm1(log_p)
    focus = wrong.clamp_min(LEAST_POWER_BASE).pow(gammas.to(log_p.dtype)[labels])
    return -class_weights.to(log_p.dtype)[labels] * focus * log_p


def _of_label(x: Tensor, labels: Tensor) -> Tensor:
    return x.gather(1, labels.unsqueeze(1)).squeeze(1)


def dice_sums(
    log_probabilities: Float[Tensor, "n k h w"],
    labels: Int64[Tensor, "n h w"],
    counted: Bool[Tensor, "n h w"],
) -> Float[Tensor, "3 k"]:
    """Per class over the counted pixels: probability on its own pixels, all its probability, its pixels."""
    probabilities = log_probabilities.exp() * counted.unsqueeze(1)
    ids = torch.arange(probabilities.shape[1], device=labels.device).view(1, -1, 1, 1)
    own = (labels.unsqueeze(1) == ids) & counted.unsqueeze(1)
    over = (0, 2, 3)
    return torch.stack(
        ((probabilities * own).sum(over), probabilities.sum(over), own.sum(over).to(probabilities.dtype))
    )


def dice(sums: Float[Tensor, "3 k"]) -> Float[Tensor, ""]:
    """Soft Dice loss, the mean over the classes present of ``1 - (2 I + 1) / (P + T + 1)``; 0 without any."""
    shared, predicted, true = sums
    losses = 1.0 - (2.0 * shared + 1.0) / (predicted + true + 1.0)
    present = (true > 0).to(losses.dtype)
    value: Tensor = (losses * present).sum() / present.sum().clamp_min(1.0)
    return value


def tversky_sums(
    prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n 1 h w"]
) -> Float[Tensor, " 4"]:
    """Soft true positives, false positives, false negatives, and the number of positive pixels."""
    prediction, target = prediction * valid, target * valid
    shared = (prediction * target).sum()
    positives = (target >= POSITIVE).sum().to(prediction.dtype)
    return torch.stack((shared, prediction.sum() - shared, target.sum() - shared, positives))


def focal_tversky(
    sums: Float[Tensor, " 4"], *, false_positive: float, false_negative: float, gamma: float
) -> Float[Tensor, ""]:
    """``(1 - TP / (TP + a FP + b FN))^gamma`` (Abraham and Khan 2019); 0 without a positive pixel.

    Without one the index would stand at 0 whatever the prediction. ``1 - index`` is at least 1e-6 before
    the power.
    """
    shared, over, under, positives = sums
    mistakes = false_positive * over + false_negative * under
    wrong = mistakes / (shared + mistakes).clamp_min(LEAST_POWER_BASE)
    value: Tensor = wrong.clamp_min(LEAST_POWER_BASE).pow(gamma) * (positives > 0)
    return value

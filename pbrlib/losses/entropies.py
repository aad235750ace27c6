"""Cross-entropy terms per pixel: of class logits with labels, and of map logits with soft targets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from pbrlib.losses.base import MIN_POWER_BASE, MeanTerm, PixelTerm
from pbrlib.losses.lossspec import BceSpec, FocalBceSpec, FocalSpec
from pbrlib.losses.target import LossContext, LossTarget, Output
from pbrlib.losses.termspec import TermSpec


class _Entropy(MeanTerm):
    """A weighted cross entropy, averaged over the number of labelled pixels (not the sum of weights)."""

    class_weights: Tensor

    def __init__(self, spec: TermSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=name)
        weights = context.class_weights
        weights = torch.ones(len(context.classes)) if weights is None else weights.float()
        self.register_buffer("class_weights", weights, persistent=False)

    def counts(self, target: LossTarget) -> Tensor:
        """Return the number of labelled pixels."""
        return target.labelled.sum().float().view(1)

    def sums(self, output: Output, target: LossTarget) -> Tensor:
        """Return the sum of the weighted cross entropy over the labelled pixels."""
        return (self._entropy(output, target) * target.labelled).sum().view(1)

    @abstractmethod
    def _entropy(self, output: Output, target: LossTarget) -> Tensor: ...


def cross_entropy(
    log_probabilities: Float[Tensor, "n k h w"],
    labels: Int64[Tensor, "n h w"],
    *,
    class_weights: Float[Tensor, " k"],
) -> Float[Tensor, "n h w"]:
    """Return ``-w_c log p_t`` per pixel; ``labels`` are in [0, k), so the caller masks ignored pixels."""
    return -class_weights.to(log_probabilities.dtype)[labels] * _of_label(log_probabilities, labels)


class CrossEntropy(_Entropy):
    """The mean of :func:`cross_entropy`."""

    def _entropy(self, output: Output, target: LossTarget) -> Tensor:
        return cross_entropy(output.log_probabilities, target.class_ids, class_weights=self.class_weights)


def focal(
    log_probabilities: Float[Tensor, "n k h w"],
    labels: Int64[Tensor, "n h w"],
    *,
    class_weights: Float[Tensor, " k"],
    gammas: Float[Tensor, " k"],
) -> Float[Tensor, "n h w"]:
    """Return ``-w_c (1 - p_t)^gamma_c log p_t`` per pixel (Lin et al. 2017), with one gamma per class.

    ``1 - p_t`` is at least 1e-6 before the power. ``labels`` as in :func:`cross_entropy`.
    """
    log_p = _of_label(log_probabilities, labels)
    wrong = -torch.expm1(log_p)
    focus = wrong.clamp_min(MIN_POWER_BASE).pow(gammas.to(log_p.dtype)[labels])
    return -class_weights.to(log_p.dtype)[labels] * focus * log_p


def _of_label(x: Tensor, labels: Tensor) -> Tensor:
    return x.gather(1, labels.unsqueeze(1)).squeeze(1)


class Focal(_Entropy):
    """The mean of :func:`focal`."""

    gammas: Tensor

    def __init__(self, spec: FocalSpec, context: LossContext, *, name: str) -> None:
        super().__init__(spec, context, name=name)
        self.register_buffer("gammas", torch.tensor(spec.gammas(context.classes)), persistent=False)

    def _entropy(self, output: Output, target: LossTarget) -> Tensor:
        return focal(
            output.log_probabilities, target.class_ids, class_weights=self.class_weights, gammas=self.gammas
        )


def bce(
    logits: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], *, pos_weight: float | None
) -> Float[Tensor, "n c h w"]:
    """Return the binary cross entropy of logits with soft targets in [0, 1]. Weights: the valid pixels."""
    scale = None if pos_weight is None else logits.new_tensor(pos_weight)
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=scale, reduction="none")


class Bce(PixelTerm):
    """The mean of :func:`bce`."""

    spec: BceSpec

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return (bce(output.logits, target.image, pos_weight=self.spec.pos_weight),)


def focal_bce(
    logits: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], *, alpha: float, gamma: float
) -> Float[Tensor, "n c h w"]:
    """Return ``alpha_t (1 - p_t)^gamma BCE`` with soft targets (Lin et al. 2017). Weights: the valid pixels.

    ``p_t = p t + (1 - p)(1 - t)``, ``alpha_t = alpha t + (1 - alpha)(1 - t)``; the targets t are in [0, 1].
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    wrong = probability * (1.0 - target) + (1.0 - probability) * target
    alpha_t = alpha * target + (1.0 - alpha) * (1.0 - target)
    return alpha_t * wrong.clamp_min(MIN_POWER_BASE).pow(gamma) * entropy


class FocalBce(PixelTerm):
    """The mean of :func:`focal_bce`."""

    spec: FocalBceSpec

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        spec = self.spec
        return (focal_bce(output.logits, target.image, alpha=spec.alpha, gamma=spec.gamma),)

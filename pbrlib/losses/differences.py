"""Loss terms that compare two maps pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pbrlib.losses.base import PixelTerm
from pbrlib.losses.lossspec import FocalRelativeL1Spec
from pbrlib.losses.target import LossTarget, Output


def l1(prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return the absolute difference per pixel. Weights: the valid pixels."""
    return (prediction - target).abs()


class L1(PixelTerm):
    """The mean of :func:`l1`."""

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return (l1(output.image, target.image),)


def focal_relative_l1(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"],
    *,
    gamma: float,
) -> Float[Tensor, "n c h w"]:
    """Return ``w (0.5 e + 0.05 e / (target + 0.1))`` with the absolute error e. Weights: the valid pixels.

    ``w = clamp((e / mean(e))^gamma, 0.25, 4)`` with the mean over the valid pixels of the sample; no gradient
    flows through w. Maps are in [0, 1]. There is no published definition of this term.
    """
    error = (prediction - target).abs()
    with torch.no_grad():
        count = valid.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1) * error.shape[1]
        average = (error * valid).sum(dim=(1, 2, 3), keepdim=True) / count
        focus = (error / (average + 1e-6)).pow(gamma).clamp(0.25, 4.0)
    return focus * (0.5 * error + 0.05 * error / (target + 0.1))


class FocalRelativeL1(PixelTerm):
    """The mean of :func:`focal_relative_l1`."""

    spec: FocalRelativeL1Spec

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        gamma = self.spec.gamma
        return (focal_relative_l1(output.image, target.image, target.valid, gamma=gamma),)

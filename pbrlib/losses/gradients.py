"""Loss terms over image gradients: total variation, forward differences, Sobel and Laplacian pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from kornia.filters import spatial_gradient
from torch import Tensor

from pbrlib.losses.base import PixelTerm
from pbrlib.losses.masks import pairs, windows
from pbrlib.losses.target import LossTarget, Output

PYRAMID_LEVELS = 4


def tv(prediction: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
    """Return the absolute forward differences along x and y (total variation). Weights: :func:`pairs`."""
    return prediction.diff(dim=-1).abs(), prediction.diff(dim=-2).abs()


class Tv(PixelTerm):
    """The mean of :func:`tv`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return pairs(target.ignores_seams)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return tv(output.image)


def grad_diff(
    prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]
) -> tuple[Tensor, Tensor]:
    """Return the absolute difference of the forward differences, along x and y. Weights: :func:`pairs`."""
    return tv(prediction - target)


class GradDiff(Tv):
    """The mean of :func:`grad_diff`."""

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return grad_diff(output.image, target.image)


def sobel(prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return the absolute difference of the Sobel magnitudes. Weights: :func:`windows`."""
    return (_sobel_magnitude(prediction) - _sobel_magnitude(target)).abs()


def _sobel_magnitude(x: Tensor) -> Tensor:
    """Return ``sqrt(gx^2 + gy^2 + 1e-6)`` with kornia's normalised kernel and replicated border."""
    gradient: Tensor = spatial_gradient(x, mode="sobel", normalized=True)
    return (gradient.square().sum(dim=2) + 1e-6).sqrt()


class Sobel(PixelTerm):
    """The mean of :func:`sobel`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (windows(target.ignores_seams),)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return (sobel(output.image, target.image),)


def laplacian_pyramid(
    prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n 1 h w"]
) -> list[Tensor]:
    """Return the absolute differences of four band-pass octaves, the finest first; weights halve per octave.

    A band is a level minus its 5-tap binomial blur; the next level is every second pixel of that blur. The
    residual after the last band is ignored, so a constant offset has no effect. The blur is normalised by the
    valid pixels in its window, at the border and around masked pixels. Weights: :func:`pyramid_weights`.
    """
    level, bands = prediction - target, []
    for octave, weight in enumerate(pyramid_weights(valid, dtype=level.dtype)):
        share = _blur(weight)
        blurred = _blur(level * weight) / share.clamp_min(1e-6)
        bands.append((level - blurred).abs() * 2.0**-octave)
        level = blurred[..., ::2, ::2]
    return bands


def pyramid_weights(valid: Bool[Tensor, "n 1 h w"], *, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return the weight of each pixel of each level: the share of valid pixels in its window."""
    weights = [valid.to(dtype)]
    full = torch.ones_like(weights[0][:1])
    for _ in range(PYRAMID_LEVELS - 1):
        share = _blur(weights[-1]) / _blur(full)
        weights.append(share[..., ::2, ::2])
        full = full[..., ::2, ::2]
    return weights


def _blur(x: Tensor) -> Tensor:
    """Blur with the binomial taps 1 4 6 4 1 and zero padding."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype, device=x.device) / 16.0
    planes = x.flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(planes, taps.view(1, 1, 1, 5), padding=(0, 2))
    return F.conv2d(planes, taps.view(1, 1, 5, 1), padding=(2, 0)).reshape(x.shape)


class LaplacianPyramid(PixelTerm):
    """The mean of :func:`laplacian_pyramid`."""

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return pyramid_weights(target.ignores_seams, dtype=target.image.dtype)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        return laplacian_pyramid(output.image, target.image, target.ignores_seams)

"""Loss terms over maps, as errors per pixel beside the weights with which they are averaged.

Pure functions on predictions and targets in [0, 1]; a term's value is the sum over its parts of
``sum(error * weight) / sum(weight)``. A weight is 0 wherever a pixel that does not count has a part in the
error, so such a pixel touches neither the value nor the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from kornia.filters import spatial_gradient
from torch import Tensor

from pbrlib.geometry.normals import fitted_scale, normal_from_height, slope_products

LEAST_POWER_BASE = 1e-6
"""``1 - p_t`` before a focal power: below gamma 1 the slope at 0 is infinite."""

RELIEF_PX = (2.5, 115.0)
"""Pixels that one unit of normalised height stands for in real materials, least and most."""

PYRAMID_LEVELS = 4

SEAM_PX = 3
"""Pixels on each side of a mosaic's seam that terms over neighbouring pixels leave out."""

MOST_REGIONS = 4
"""Parts of a mosaic; their regions are numbered from 0."""


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


def pairs(valid: Bool[Tensor, "n 1 h w"]) -> tuple[Tensor, Tensor]:
    """Whether both pixels of a forward difference count, along x and along y."""
    return valid[..., :, 1:] & valid[..., :, :-1], valid[..., 1:, :] & valid[..., :-1, :]


def windows(valid: Bool[Tensor, "n 1 h w"]) -> Bool[Tensor, "n 1 h w"]:
    """Whether the whole 3 x 3 window counts; beyond the border everything does."""
    return F.max_pool2d((~valid).float(), 3, stride=1, padding=1) == 0


def seams(regions: UInt8[Tensor, "n 1 h w"]) -> Bool[Tensor, "n 1 h w"]:
    """The band along every seam: pixels with another region at most three pixels away."""
    numbers = regions.float()
    side = 2 * SEAM_PX + 1
    highest = F.max_pool2d(numbers, side, stride=1, padding=SEAM_PX)
    lowest = -F.max_pool2d(-numbers, side, stride=1, padding=SEAM_PX)
    return highest != lowest


def l1(prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Absolute difference. Weights: the valid pixels."""
    return (prediction - target).abs()


def tv(prediction: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
    """Absolute forward differences along x and y (total variation). Weights: :func:`pairs`."""
    return prediction.diff(dim=-1).abs(), prediction.diff(dim=-2).abs()


def grad_diff(
    prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]
) -> tuple[Tensor, Tensor]:
    """Absolute difference of the signed forward differences, along x and y. Weights: :func:`pairs`."""
    return tv(prediction - target)


def sobel(prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Absolute difference of the Sobel magnitudes. Weights: :func:`windows`."""
    return (_sobel_magnitude(prediction) - _sobel_magnitude(target)).abs()


def _sobel_magnitude(x: Tensor) -> Tensor:
    """``sqrt(gx^2 + gy^2 + 1e-6)`` with kornia's normalised kernel and replicate border."""
    gradient: Tensor = spatial_gradient(x, mode="sobel", normalized=True)
    return (gradient.square().sum(dim=2) + 1e-6).sqrt()


def normal_reproj(
    height: Float[Tensor, "n 1 h w"],
    normal: Float[Tensor, "n 3 h w"],
    valid: Bool[Tensor, "n 1 h w"],
    *,
    regions: UInt8[Tensor, "n 1 h w"] | None = None,
) -> Float[Tensor, "n 1 h w"]:
    """``1 - cos`` between the normal of a height map and a given normal. Weights: :func:`windows`.

    Heights are normalised, so their scale in pixels is fitted first (:func:`fitted_relief`), without
    gradient: unscaled, the error is dominated by a constant.

    Args:
        height: Predicted height in [0, 1].
        normal: Unit OpenGL normals.
        valid: The pixels that count, in the fit as in the weights.
        regions: The parts of mosaics, each with a scale of its own.
    """
    scale = fitted_relief(height.detach(), normal, valid, regions=regions)
    reprojected = normal_from_height(height, scale_px=scale, tileable=False)
    return 1.0 - (reprojected * normal).sum(dim=1, keepdim=True)


def fitted_relief(
    height: Float[Tensor, "n 1 h w"],
    normal: Float[Tensor, "n 3 h w"],
    valid: Bool[Tensor, "n 1 h w"],
    *,
    regions: UInt8[Tensor, "n 1 h w"] | None = None,
) -> Float[Tensor, "n 1 #h #w"]:
    """Pixels per unit of height that bring the slopes of a sample nearest to those of its normals.

    Least squares, clamped to the span of real materials; a flat height takes the lower end. With ``regions``
    each part of a mosaic has its own fit, since heights are normalised texture by texture; the result is
    then a scale for each pixel.
    """
    inside = windows(valid)
    products, squares = slope_products(height, normal, tileable=False)
    if regions is None:
        return _least_squares(products, squares, inside)
    scale = torch.zeros_like(height)
    for number in range(MOST_REGIONS):
        own = regions == number
        scale = torch.where(own, _least_squares(products, squares, inside & own), scale)
    return scale


def _least_squares(products: Tensor, squares: Tensor, inside: Tensor) -> Float[Tensor, "n 1 1 1"]:
    return fitted_scale(products * inside, squares * inside).clamp(*RELIEF_PX)


def laplacian_pyramid(
    prediction: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n 1 h w"]
) -> list[Tensor]:
    """Absolute band-pass difference of four octaves, the finest first, each weighing half of the one before.

    Filter, subtract, decimate: a band is a level less its 5-tap binomial blur, the next level is every
    other pixel of that blur; what remains after the last band does not count, so constants do not matter.
    The blur is normalised by what counts within its window, at the border and around masked pixels alike.
    Weights: :func:`pyramid_weights`.
    """
    level, bands = prediction - target, []
    for octave, weight in enumerate(pyramid_weights(valid, dtype=level.dtype)):
        share = _blur(weight)
        blurred = _blur(level * weight) / share.clamp_min(1e-6)
        bands.append((level - blurred).abs() * 2.0**-octave)
        level = blurred[..., ::2, ::2]
    return bands


def pyramid_weights(valid: Bool[Tensor, "n 1 h w"], *, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """How much each pixel of each level counts: the share of its window that does."""
    weights = [valid.to(dtype)]
    full = torch.ones_like(weights[0][:1])
    for _ in range(PYRAMID_LEVELS - 1):
        share = _blur(weights[-1]) / _blur(full)
        weights.append(share[..., ::2, ::2])
        full = full[..., ::2, ::2]
    return weights


def _blur(x: Tensor) -> Tensor:
    """Binomial blur with taps 1 4 6 4 1, zero beyond the border."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype, device=x.device) / 16.0
    planes = x.flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(planes, taps.view(1, 1, 1, 5), padding=(0, 2))
    return F.conv2d(planes, taps.view(1, 1, 5, 1), padding=(2, 0)).reshape(x.shape)


def focal_relative_l1(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"],
    *,
    gamma: float,
) -> Float[Tensor, "n c h w"]:
    """``w (0.5 e + 0.05 e / (target + 0.1))`` with e the absolute error. Weights: the valid pixels.

    ``w = clamp((e / mean(e))^gamma, 0.25, 4)``, the mean over the valid pixels of the sample; no gradient
    flows through w. There is no published definition.
    """
    error = (prediction - target).abs()
    with torch.no_grad():
        count = valid.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1) * error.shape[1]
        average = (error * valid).sum(dim=(1, 2, 3), keepdim=True) / count
        focus = (error / (average + 1e-6)).pow(gamma).clamp(0.25, 4.0)
    return focus * (0.5 * error + 0.05 * error / (target + 0.1))


def bce(
    logits: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], *, pos_weight: float | None
) -> Float[Tensor, "n c h w"]:
    """Binary cross entropy of logits with soft targets. Weights: the valid pixels."""
    scale = None if pos_weight is None else logits.new_tensor(pos_weight)
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=scale, reduction="none")


def focal_bce(
    logits: Float[Tensor, "n c h w"], target: Float[Tensor, "n c h w"], *, alpha: float, gamma: float
) -> Float[Tensor, "n c h w"]:
    """``alpha_t (1 - p_t)^gamma BCE`` with soft targets (Lin et al. 2017). Weights: the valid pixels.

    ``p_t = p t + (1 - p)(1 - t)``, ``alpha_t = alpha t + (1 - alpha)(1 - t)``.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    wrong = probability * (1.0 - target) + (1.0 - probability) * target
    alpha_t = alpha * target + (1.0 - alpha) * (1.0 - target)
    return alpha_t * wrong.clamp_min(LEAST_POWER_BASE).pow(gamma) * entropy

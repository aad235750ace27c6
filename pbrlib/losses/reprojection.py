"""Normals of a predicted height against the normals that the network saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from pbrlib.geometry.normals import fitted_scale, normal_from_height, slope_products
from pbrlib.losses.base import PixelTerm
from pbrlib.losses.lossspec import NormalReprojSpec
from pbrlib.losses.masks import windows
from pbrlib.losses.target import LossTarget, Output

RELIEF_PX = (2.5, 115.0)
"""Pixels that one unit of normalised height stands for in real materials, least and most."""

MOST_REGIONS = 4
"""Parts of a mosaic; their regions are numbered from 0."""


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


class NormalReproj(PixelTerm):
    """:func:`normal_reproj`."""

    spec: NormalReprojSpec

    def weight(self, progress: float) -> float:
        """Moves linearly to the final weight, where there is one; exact at both ends."""
        start, final = self.spec.weight, self.spec.final_weight
        return start if final is None else start * (1.0 - progress) + final * progress

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (windows(target.off_seams),)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        assert target.normal is not None, (
            "normal_reproj compares with the input normal, and the target has none"
        )
        counted, regions = target.off_seams, target.regions
        return (normal_reproj(output.image, target.normal, counted, regions=regions),)

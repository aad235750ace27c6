"""Normal reprojection: compares the normal of a predicted height with the input normal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from pbrlib.geometry.normals import fit_scale, normal_from_height, slope_products
from pbrlib.losses.base import PixelTerm
from pbrlib.losses.lossspec import NormalReprojSpec
from pbrlib.losses.masks import windows
from pbrlib.losses.target import LossTarget, Output

RELIEF_PX = (2.5, 115.0)
"""Smallest and largest relief in pixels that one unit of normalised height means in real materials."""

MAX_REGIONS = 4
"""Largest number of regions in a mosaic; regions are numbered from 0."""


def normal_reproj(
    height: Float[Tensor, "n 1 h w"],
    normal: Float[Tensor, "n 3 h w"],
    valid: Bool[Tensor, "n 1 h w"],
    *,
    regions: UInt8[Tensor, "n 1 h w"] | None = None,
) -> Float[Tensor, "n 1 h w"]:
    """Return ``1 - cos`` of the angle between a height map's normal and a given normal.

    Heights are normalised, so their scale in pixels is fitted first (:func:`fitted_relief`), without
    gradient; without the fit a constant would dominate the error. Weights: :func:`windows`.

    Args:
        height: Predicted height in [0, 1].
        normal: Unit OpenGL normals.
        valid: The valid pixels, for the fit and for the weights.
        regions: The region numbers of mosaics; each region has its own scale.
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
    """Fit the pixels per unit of height with which a sample's slopes match those of its normals best.

    The least-squares fit is clamped to the range of real materials (``RELIEF_PX``); a flat height gets the
    lower end. With ``regions`` each region of a mosaic has its own fit, since heights are normalised per
    texture, and the result is a scale per pixel.
    """
    inside = windows(valid)
    products, squares = slope_products(height, normal, tileable=False)
    if regions is None:
        return _least_squares(products, squares, inside)
    scale = torch.zeros_like(height)
    for number in range(MAX_REGIONS):
        own = regions == number
        scale = torch.where(own, _least_squares(products, squares, inside & own), scale)
    return scale


def _least_squares(products: Tensor, squares: Tensor, inside: Tensor) -> Float[Tensor, "n 1 1 1"]:
    return fit_scale(products * inside, squares * inside).clamp(*RELIEF_PX)


class NormalReproj(PixelTerm):
    """The mean of :func:`normal_reproj`."""

    spec: NormalReprojSpec

    def weight(self, progress: float) -> float:
        """Return the weight, interpolated linearly to the final weight if any; exact at both ends."""
        start, final = self.spec.weight, self.spec.final_weight
        return start if final is None else start * (1.0 - progress) + final * progress

    def _weights(self, target: LossTarget) -> Sequence[Tensor]:
        return (windows(target.ignores_seams),)

    def _errors(self, output: Output, target: LossTarget) -> Sequence[Tensor]:
        assert target.normal is not None, (
            "normal_reproj: got a target without a normal; expected the input normal"
        )
        counted, regions = target.ignores_seams, target.regions
        return (normal_reproj(output.image, target.normal, counted, regions=regions),)

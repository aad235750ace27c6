"""Computes the ambient occlusion of a height map."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.geometry.fields import pad_axis

STEP_GROWTH = 1.3
"""Ratio of consecutive distances along a ray; near pixels are sampled more densely than far ones."""


def ao_from_height(
    height: Float[Tensor, "n 1 h w"],
    *,
    scale_px: float | Float[Tensor, "n 1 1 1"],
    tileable: bool,
    directions: int = 8,
    radius_px: int = 64,
) -> Float[Tensor, "n 1 h w"]:
    """Return the horizon-based ambient occlusion in [0, 1]; 1 is not occluded.

    In each direction, the steepest slope within the radius is the horizon. Under a uniform sky with cosine
    weighting, a direction contributes ``cos^2`` of its horizon angle (Bavoil and others, 2008).

    Args:
        height: Heights in any range.
        scale_px: Pixels per unit of height.
        tileable: Whether rays wrap around the border; otherwise the height map is mirrored there.
        directions: Number of azimuths.
        radius_px: Length of the rays in pixels.
    """
    rows, cols = height.shape[-2:]
    raised = height * scale_px
    padded = pad_axis(raised, margin=radius_px, dim=-1, tileable=tileable)
    padded = pad_axis(padded, margin=radius_px, dim=-2, tileable=tileable)
    open_sky = torch.zeros_like(raised)
    for direction in range(directions):
        azimuth = 2.0 * math.pi * direction / directions
        horizon = torch.zeros_like(raised)
        for down, right in _steps(azimuth, radius_px):
            seen = padded[..., radius_px + down :, radius_px + right :][..., :rows, :cols]
            horizon = torch.maximum(horizon, (seen - raised) / math.hypot(down, right))
        open_sky += 1.0 / (1.0 + horizon.square())
    return open_sky / directions


def _steps(azimuth: float, radius_px: int) -> list[tuple[int, int]]:
    """Return pixel offsets (rows, columns) along a ray, at growing distances up to the radius."""
    offsets: list[tuple[int, int]] = []
    distance = 1.0
    while distance <= radius_px:
        offset = (round(distance * math.sin(azimuth)), round(distance * math.cos(azimuth)))
        if offset not in offsets:
            offsets.append(offset)
        distance = max(distance * STEP_GROWTH, distance + 1.0)
    return offsets

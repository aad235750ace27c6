"""Detects diffuse maps that are a copy of the albedo, and materials of bare metal."""

from __future__ import annotations

import numpy as np

from pbrlib.colour import Floats
from pbrlib.data.materials.material import Material
from pbrlib.maps import MAPS, METALLIC, Stored, class_id

MAX_MEAN_DIFFERENCE = 2 / 255
"""A diffuse with at most this mean difference from the albedo is a copy of it."""

MAX_BLOCK_DIFFERENCE = 3 / 255
"""A diffuse with at most this mean difference after a gain per channel is a copy at another exposure.

The difference is measured on means of 4 x 4 px. Block compression gives 1.6 of 255 on average and rarely more
than 3; painted light gave 3.5 or more in 25 old textures.
"""

GAINS = (0.65, 1 / 0.65)
"""The range of gains of a copy; the diffuse of bare metals is painted at half of their albedo."""

RELIEF_SHARE = 0.2
"""If the normals explain more than this share of the difference, the diffuse has painted light."""

MAJORITY = 0.5

_BLOCK = 4


def albedo_match(diffuse: Stored, albedo: Stored, *, normal: Stored) -> str | None:
    """Describe how a diffuse is a copy of the albedo; returns None if it is not a copy.

    Measured: of 25 old textures none counts as a copy, of 380 baked ones 12, mostly flat metals. Of 380
    compressed albedos at four exposures, 21 are not detected.

    Args:
        diffuse: ``(H, W, 3)`` uint8, sRGB.
        albedo: The albedo, with the type and size of the diffuse.
        normal: ``(H, W, 3)`` uint8, of the same size.
    """
    if np.array_equal(diffuse, albedo):
        return "is identical to the albedo"
    difference = float(np.abs(diffuse.astype(np.int16) - albedo.astype(np.int16)).mean()) / 255
    if difference <= MAX_MEAN_DIFFERENCE:
        return f"equals the albedo (mean difference {difference * 255:.1f} of 255)"
    if min(diffuse.shape[:2]) < _BLOCK:
        return None
    given, wanted = _means(albedo), _means(diffuse)
    gain = (given * wanted).sum(axis=0) / np.maximum(np.square(given).sum(axis=0), 1e-6)
    if gain.min() < GAINS[0] or gain.max() > GAINS[1]:
        return None
    rest = wanted - gain * given
    if (
        np.abs(rest).mean() > MAX_BLOCK_DIFFERENCE
        or _explained_share(rest, given * gain, _means(normal)) > RELIEF_SHARE
    ):
        return None
    return f"is the albedo times {', '.join(f'{value:.2f}' for value in gain)}"


def is_metal(material: Material) -> bool:
    """Whether most of a material is bare metal, by its metallic map, its mask or its class."""
    metallic, mask = material.maps.get(METALLIC.name), material.maps.get("mask")
    if metallic is not None:
        return bool(metallic.mean() > MAJORITY * METALLIC.maximum)
    if mask is not None:
        return bool((mask == class_id("metal")).mean() > MAJORITY)
    return material.label == "metal"


def value_span(stored: Stored, name: str) -> float:
    """Return the largest range of values of a channel, as a share of the range of the integer type."""
    low, high = stored.min(axis=(0, 1)).astype(int), stored.max(axis=(0, 1)).astype(int)
    return float((high - low).max()) / MAPS[name].maximum


def _means(pixels: Stored) -> Floats:
    """Return means over blocks of 4 x 4 px, ``(N, 3)`` in [0, 1]; incomplete blocks are left out."""
    rows, columns = (side // _BLOCK for side in pixels.shape[:2])
    cut = pixels[: rows * _BLOCK, : columns * _BLOCK]
    blocks: Floats = cut.reshape(rows, _BLOCK, columns, _BLOCK, 3).mean(axis=(1, 3), dtype=np.float32)
    return blocks.reshape(-1, 3) / np.float32(255)


def _explained_share(rest: Floats, expected: Floats, normals: Floats) -> float:
    """Return the share of variance of the relative brightness difference that normals explain linearly."""
    relative = rest.mean(axis=1) / np.maximum(expected.mean(axis=1), 8 / 255)
    centred = (relative - relative.mean()).astype(np.float64)
    facing = (normals - normals.mean(axis=0)).astype(np.float64)
    fitted = facing @ np.linalg.lstsq(facing, centred, rcond=None)[0]
    return float(np.square(fitted).sum() / max(np.square(centred).sum(), 1e-12))

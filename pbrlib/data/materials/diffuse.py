"""What a diffuse is worth: a picture of its own, the albedo again, or nothing."""

from __future__ import annotations

import numpy as np

from pbrlib.colour import Floats
from pbrlib.data.materials.material import Material
from pbrlib.maps import MAPS, METALLIC, Stored, class_id

EQUAL = 2 / 255
"""A diffuse that differs from the albedo by no more than this on average is the albedo, saved again."""

SAME = 3 / 255
"""The same in means of 4 x 4 px after a gain a channel: it is the albedo, compressed at another exposure.
Block compression leaves 1.6 of 255 on average and rarely more than 3; light painted in leaves 3.5 or more in
25 old textures."""

GAINS = (0.65, 1 / 0.65)
"""Gains beyond these are of another picture: bare metals are painted at half of their albedo."""

RELIEF_SHARE = 0.2
"""Where the normals explain more than this share of what differs, light was painted in, however faintly."""

MAJORITY = 0.5

_BLOCK = 4


def sameness(diffuse: Stored, albedo: Stored, *, normal: Stored) -> str | None:
    """In what way a diffuse is the albedo again, in words; None if it is a picture of its own.

    Of 25 old textures none is taken for its albedo, of 380 baked ones 12, flat metals mostly; of as many
    compressed albedos at four exposures 21 are not known again.

    Args:
        diffuse: ``(H, W, 3)`` uint8, sRGB.
        albedo: The same; of the same size.
        normal: ``(H, W, 3)`` uint8, of the same size.
    """
    if np.array_equal(diffuse, albedo):
        return "is the albedo, to the bit"
    apart = float(np.abs(diffuse.astype(np.int16) - albedo.astype(np.int16)).mean()) / 255
    if apart <= EQUAL:
        return f"equals the albedo ({apart * 255:.1f} of 255 apart)"
    if min(diffuse.shape[:2]) < _BLOCK:
        return None
    given, wanted = _means(albedo), _means(diffuse)
    gain = (given * wanted).sum(axis=0) / np.maximum(np.square(given).sum(axis=0), 1e-6)
    if gain.min() < GAINS[0] or gain.max() > GAINS[1]:
        return None
    rest = wanted - gain * given
    if np.abs(rest).mean() > SAME or _explained(rest, given * gain, _means(normal)) > RELIEF_SHARE:
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


def spans(stored: Stored, name: str) -> float:
    """The widest range of values of a channel, as a share of all that the map can hold."""
    low, high = stored.min(axis=(0, 1)).astype(int), stored.max(axis=(0, 1)).astype(int)
    return float((high - low).max()) / MAPS[name].maximum


def _means(pixels: Stored) -> Floats:
    """Means over blocks of 4 x 4 px, ``(N, 3)`` in [0, 1]; a rest at the border is left out."""
    rows, columns = (side // _BLOCK for side in pixels.shape[:2])
    cut = pixels[: rows * _BLOCK, : columns * _BLOCK]
    blocks: Floats = cut.reshape(rows, _BLOCK, columns, _BLOCK, 3).mean(axis=(1, 3), dtype=np.float32)
    return blocks.reshape(-1, 3) / np.float32(255)


def _explained(rest: Floats, expected: Floats, normals: Floats) -> float:
    """The share of variance of the relative difference in brightness that the normals explain linearly."""
    relative = rest.mean(axis=1) / np.maximum(expected.mean(axis=1), 8 / 255)
    centred = (relative - relative.mean()).astype(np.float64)
    facing = (normals - normals.mean(axis=0)).astype(np.float64)
    fitted = facing @ np.linalg.lstsq(facing, centred, rcond=None)[0]
    return float(np.square(fitted).sum() / max(np.square(centred).sum(), 1e-12))

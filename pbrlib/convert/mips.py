"""Builds mip chains: albedo averaged in linear light, normals as directions, roughness with lost variance.

Uses numpy only, since child processes that import torch start slowly. Pictures are ``(H, W, C)`` float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pbrlib.colour import Floats, linear_to_srgb, srgb_to_linear
from pbrlib.textures.blocks import Bytes

_MIN_LENGTH = 1e-6
_MIN_ALPHA = 1e-3  # with a smaller alpha the Toksvig exponent exceeds float32


def halve(picture: Floats) -> Floats:
    """Return ``(H, W, C)`` box-averaged to half the size, rounded down, at least 1 x 1.

    An odd side is averaged with the exact weights of three pixels, so that the picture does not shift
    (NVIDIA, "Non-Power-of-Two Mipmap Creation", 2005).
    """
    for axis in (0, 1):
        picture = _halve_axis(picture, axis)
    return picture


def _halve_axis(picture: Floats, axis: int) -> Floats:
    size = picture.shape[axis]
    if size == 1:
        return picture
    lines = np.moveaxis(picture, axis, 0)
    half = size // 2
    if size % 2 == 0:
        mean = (lines[0::2] + lines[1::2]) * np.float32(0.5)
    else:
        position = np.arange(half, dtype=np.float32).reshape(-1, 1, 1)
        mean = (
            (half - position) * lines[0:-2:2] + half * lines[1:-1:2] + (position + 1) * lines[2::2]
        ) / np.float32(size)
    averaged: Floats = np.moveaxis(mean.astype(np.float32), 0, axis)
    return averaged


def mip_chain(picture: Floats) -> list[Floats]:
    """Return the picture and its box-averaged mip levels down to 1 x 1."""
    levels = [picture]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(halve(levels[-1]))
    return levels


def albedo_chain(pixels: Bytes) -> list[Bytes]:
    """Return mips of ``(H, W, 4)`` sRGB colours with alpha; colours are averaged in linear light."""
    values = pixels.astype(np.float32) / 255.0
    levels = mip_chain(np.concatenate((srgb_to_linear(values[..., :3]), values[..., 3:]), axis=-1))
    below = [np.concatenate((linear_to_srgb(x[..., :3]), x[..., 3:]), axis=-1) for x in levels[1:]]
    return [pixels, *map(to_bytes, below)]


def mean_normals(normal: Floats) -> list[Floats]:
    """Return averaged unit normals ``(H, W, 3)`` per level; their length measures how well they agree."""
    return mip_chain(normalise(normal))


def normalise(vectors: Floats) -> Floats:
    """Return vectors ``(H, W, 3)`` with unit length; a vector of length 0 becomes (0, 0, 1)."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    up = np.array((0.0, 0.0, 1.0), np.float32)
    directions: Floats = np.where(length > _MIN_LENGTH, vectors / np.maximum(length, _MIN_LENGTH), up)
    return directions.astype(np.float32)


def toksvig(roughness: Floats, length: Floats) -> Floats:
    """Return roughness raised by the variance that averaging removed from the normals.

    With alpha = r^2 and s = 2 / alpha^2 - 2 the Blinn-Phong exponent of equal lobe width,
    s' = s |N| / (|N| + s (1 - |N|)) and r' = (2 / (s' + 2))^(1/4). Source: Toksvig, "Mipmapping Normal
    Maps", 2005; exponent and GGX alpha matched as in Walter et al. 2007.

    Args:
        roughness: Perceptual roughness, ``(H, W, 1)`` in [0, 1].
        length: Length of the averaged normal, ``(H, W, 1)`` in [0, 1].
    """
    alpha = np.maximum(roughness.astype(np.float64) ** 2, _MIN_ALPHA)
    exponent = np.maximum(2.0 / alpha**2 - 2.0, 0.0)
    length64 = np.clip(length.astype(np.float64), _MIN_LENGTH, 1.0)
    shorter = exponent * length64 / (length64 + exponent * (1.0 - length64))
    raised: Floats = ((2.0 / (shorter + 2.0)) ** 0.25).astype(np.float32)
    return np.maximum(raised, roughness)


def roughness_chain(roughness: Floats, normals: list[Floats]) -> list[Floats]:
    """Return mips of roughness ``(H, W, 1)``, each level raised by the ``mean_normals`` of that level."""
    averaged = mip_chain(roughness)
    lengths = (np.linalg.norm(level, axis=-1, keepdims=True) for level in normals[1:])
    return [roughness, *(toksvig(r, n) for r, n in zip(averaged[1:], lengths, strict=True))]


def to_bytes(values: Floats) -> Bytes:
    """Quantise values in [0, 1] to uint8, rounded to nearest and clipped."""
    stored: Bytes = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return stored


def to_rgba_bytes(values: Floats) -> Bytes:
    """Quantise ``(H, W, C)`` in [0, 1] to RGBA bytes; one channel is repeated, a missing alpha is 255."""
    pixels = to_bytes(values)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    if pixels.shape[-1] == 4:
        return pixels
    return np.concatenate((pixels, np.full_like(pixels[..., :1], 255)), axis=-1)


def encode_levels(levels: list[Floats], *, convert: Callable[[Floats], Floats] = lambda x: x) -> list[Bytes]:
    """Quantise levels to RGBA bytes after ``convert`` maps each to [0, 1]."""
    return [to_rgba_bytes(convert(level)) for level in levels]

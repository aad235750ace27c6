"""What the pixels of a normal map hold: where X, Y and Z lie, or why they are no normals.

Skyrim's shaders read X, Y and Z in red, green and blue and gloss in alpha. Files come with X in alpha
(DXT5nm), without Z (two channels) or with a grey bump map, and the game shows them wrong; a network would
learn and predict from nonsense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from pbrlib.errors import DataError
from pbrlib.textures.blocks import Bytes, is_opaque

_Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_SAME = 8
"""Difference that block compression makes of equal channels, and of a channel of one value."""

_MOST, _FEW = 0.98, 0.1
"""Shares of pixels: nearly all, and more than compression and blank parts of an atlas explain."""

_LONGEST, _SHORTEST = 1.6, 0.3
"""Lengths of vectors that are no unit vectors any more, however compressed, reduced or flattened."""

_FLAT = 128


@dataclass(frozen=True)
class NormalPixels:
    """The channels of a normal map, each ``(H, W, C)`` uint8 as stored.

    Attributes:
        xy: X and Y.
        z: Z, or None where the file has none and it follows from unit length.
        gloss: The alpha channel where it holds gloss, else None.
        notes: What was found in an unusual place.
    """

    xy: Bytes
    z: Bytes | None
    gloss: Bytes | None
    notes: tuple[str, ...] = ()


def split_normal(pixels: Bytes) -> NormalPixels:
    """Finds X, Y, Z and gloss in the pixels of a normal map.

    Args:
        pixels: ``(H, W, C)``: 1 (grey), 2 (X and Y), 3 or 4 with alpha.

    Raises:
        DataError: The picture holds no tangent-space normals; the message says what it seems to hold, the
            caller names the file.
    """
    num_channels = pixels.shape[-1]
    if num_channels == 2:
        return NormalPixels(pixels, None, None)
    alpha = None if num_channels < 4 or is_opaque(pixels[..., 3:]) else pixels[..., 3:]
    if num_channels == 1 or _is_grey(pixels):
        return _flat(pixels, alpha)
    if _span(pixels[..., 0]) <= _SAME and _is_extreme(pixels[..., 0]):
        return _x_in_alpha(pixels, alpha)
    xy, z = pixels[..., :2], pixels[..., 2:3]
    if not _is_empty(z):
        _require_normals(pixels[..., :3])
        return NormalPixels(xy, z, alpha)
    if _fits(xy, z):
        return NormalPixels(xy, z, alpha)
    if _disc_share(xy) < _MOST:
        raise DataError("its blue is the same everywhere, and red and green are no directions. Replace it.")
    return NormalPixels(xy, None, alpha, ("blue is empty: Z computed from X and Y",))


def vector_problem(pixels: Bytes) -> str:
    """Why pixels ``(H, W, 3)`` without alpha are no tangent-space normals; empty if they are."""
    try:
        split_normal(pixels)
    except DataError as error:
        return str(error)
    return ""


def _flat(pixels: Bytes, alpha: Bytes | None) -> NormalPixels:
    """A flat surface for a picture of one grey that does not point into it: no bump is no slope."""
    grey = pixels[..., :3].astype(np.int16).mean(axis=-1)
    if _span(grey) > _SAME or np.median(grey) < _FLAT - _SAME:
        seen = "has one channel" if pixels.shape[-1] == 1 else "is grey"
        raise DataError(
            f"it {seen}: a bump or height map, not a tangent-space normal map. Make one of it and save that."
        )
    xy = np.full((*pixels.shape[:2], 2), _FLAT, np.uint8)
    return NormalPixels(xy, None, alpha, ("one grey, taken as a flat surface",))


def _x_in_alpha(pixels: Bytes, alpha: Bytes | None) -> NormalPixels:
    xy = pixels[..., [3, 1]] if alpha is not None else None
    if xy is None or _disc_share(xy) < _MOST:
        raise DataError(
            f"its red is {pixels[0, 0, 0]} everywhere, and X is not in alpha. Save X in red, Y in green."
        )
    return NormalPixels(
        np.ascontiguousarray(xy), None, None, ("X lies in alpha (DXT5nm): Z computed, no gloss",)
    )


def _require_normals(pixels: Bytes) -> None:
    """Raises DataError where most vectors have no length near 1, or too many point into the surface."""
    vectors = pixels.astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)
    lengths = np.linalg.norm(vectors, axis=-1)
    # Unused parts of an atlas are black or white.
    used = (pixels.max(axis=-1) > _SAME) & (pixels.min(axis=-1) < 255 - _SAME)
    if not used.any():
        return
    odd = float(((lengths > _LONGEST) | (lengths < _SHORTEST))[used].mean())
    if odd > 0.5:
        raise DataError(f"{odd:.0%} of its vectors are not of unit length: colours or a mask? Replace it.")
    inward = float((vectors[..., 2] < -0.1)[used].mean())
    if inward > _FEW:
        raise DataError(
            f"{inward:.0%} of its vectors point into the surface: a model-space normal map or colours, not "
            "tangent space. Leave it out."
        )


def _is_grey(pixels: Bytes) -> bool:
    red, green, blue = (pixels[..., channel].astype(np.int16) for channel in range(3))
    alike = (np.abs(red - green) <= _SAME) & (np.abs(green - blue) <= _SAME)
    return bool(alike.mean() >= _MOST)


def _span(values: _Values) -> int:
    """The largest range of any channel, without the outermost hundredths, which compression makes."""
    flat = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values.reshape(-1, 1)
    low, high = np.quantile(flat, (0.01, 0.99), axis=0)
    return int((high - low).max())


def _is_extreme(values: Bytes) -> bool:
    """Whether a channel of one value has the least or the largest."""
    middle = float(np.median(values))
    return middle <= _SAME or middle >= 255 - _SAME


def _is_empty(z: Bytes) -> bool:
    """Whether a blue channel is one of the values that tools fill it with."""
    middle = float(np.median(z))
    return _span(z) <= _SAME and (_is_extreme(z) or abs(middle - _FLAT) <= _SAME)


def _squares(xy: Bytes) -> _Values:
    """The squared length of X and Y, ``(H, W, 1)``."""
    values = xy.astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)
    squares: _Values = np.square(values).sum(axis=-1, keepdims=True)
    return squares


def _disc_share(xy: Bytes) -> float:
    """The share of pixels whose X and Y leave room for Z."""
    return float((_squares(xy) <= 1.1).mean())


def _fits(xy: Bytes, z: Bytes) -> bool:
    """Whether a Z of one value is the one that follows from X and Y, as on a nearly flat surface."""
    expected = np.sqrt(np.clip(1.0 - _squares(xy), 0.0, 1.0)) * 127.5 + 127.5
    return bool(np.abs(expected - z).mean() <= _SAME)

"""Finds X, Y, Z and gloss in the pixels of a normal map, and rejects pixels that are no normals.

Skyrim's shaders read X, Y and Z from red, green and blue, and gloss from alpha. Some files have X in alpha
(DXT5nm), no Z (two channels), or a grey bump map. The game renders them incorrectly, and a network would
train on wrong normals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from pbrlib.errors import DataError
from pbrlib.textures.blocks import Bytes, is_opaque

_Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_TOLERANCE = 8
"""Maximum difference, of 255, that block compression causes between equal channels or equal pixels."""

_NEARLY_ALL, _FEW = 0.98, 0.1
"""Shares of pixels: nearly all, and the maximum that compression and blank parts of an atlas cause."""

_MAX_LENGTH, _MIN_LENGTH = 1.6, 0.3
"""Range of lengths of normals after compression, reduction or flattening."""

_MIDDLE = 128


@dataclass(frozen=True)
class NormalPixels:
    """The channels of a normal map, each ``(H, W, C)`` uint8 as stored.

    Attributes:
        xy: X and Y.
        z: Z, or None if the file has none and it has to be computed from unit length.
        gloss: The alpha channel if it contains gloss, else None.
        notes: Notes on an unusual layout.
    """

    xy: Bytes
    z: Bytes | None
    gloss: Bytes | None
    notes: tuple[str, ...] = ()


def split_normal(pixels: Bytes) -> NormalPixels:
    """Find X, Y, Z and gloss in the pixels of a normal map.

    Args:
        pixels: ``(H, W, C)``: 1 (grey), 2 (X and Y), 3 or 4 with alpha.

    Raises:
        DataError: The pixels are no tangent-space normals. The message describes what they seem to be; the
            caller adds the file name.
    """
    num_channels = pixels.shape[-1]
    if num_channels == 2:
        return NormalPixels(pixels, None, None)
    alpha = None if num_channels < 4 or is_opaque(pixels[..., 3:]) else pixels[..., 3:]
    if num_channels == 1 or _is_grey(pixels):
        return _read_grey(pixels, alpha)
    if _span(pixels[..., 0]) <= _TOLERANCE and _is_extreme(pixels[..., 0]):
        return _read_x_in_alpha(pixels, alpha)
    xy, z = pixels[..., :2], pixels[..., 2:3]
    if not _is_empty(z):
        _require_normals(pixels[..., :3])
        return NormalPixels(xy, z, alpha)
    if _z_follows_from_xy(xy, z):
        return NormalPixels(xy, z, alpha)
    if _disc_share(xy) < _NEARLY_ALL:
        raise DataError(
            "blue is constant, and red and green are no directions; expected a tangent-space normal map. "
            "Replace it."
        )
    return NormalPixels(xy, None, alpha, ("blue is empty; Z is computed from X and Y",))


def vector_problem(pixels: Bytes) -> str:
    """Return why pixels ``(H, W, 3)`` are no tangent-space normals; empty if they are."""
    try:
        split_normal(pixels)
    except DataError as error:
        return str(error)
    return ""


def _read_grey(pixels: Bytes, alpha: Bytes | None) -> NormalPixels:
    """Return flat normals for a picture of one grey; raises DataError for any other grey picture."""
    grey = pixels[..., :3].astype(np.int16).mean(axis=-1)
    if _span(grey) > _TOLERANCE or np.median(grey) < _MIDDLE - _TOLERANCE:
        content = "one channel" if pixels.shape[-1] == 1 else "a grey picture"
        raise DataError(
            f"got {content}, a bump or height map; expected a tangent-space normal map. Convert it to one."
        )
    xy = np.full((*pixels.shape[:2], 2), _MIDDLE, np.uint8)
    return NormalPixels(xy, None, alpha, ("one grey value, read as a flat surface",))


def _read_x_in_alpha(pixels: Bytes, alpha: Bytes | None) -> NormalPixels:
    xy = pixels[..., [3, 1]] if alpha is not None else None
    if xy is None or _disc_share(xy) < _NEARLY_ALL:
        raise DataError(
            f"red is {pixels[0, 0, 0]} everywhere, and alpha does not contain X. Save X in red, Y in green."
        )
    return NormalPixels(
        np.ascontiguousarray(xy),
        None,
        None,
        ("X is in alpha (DXT5nm); Z is computed, and there is no gloss",),
    )


def _require_normals(pixels: Bytes) -> None:
    """Raise DataError if most vectors are far from unit length, or too many point into the surface."""
    vectors = pixels.astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)
    lengths = np.linalg.norm(vectors, axis=-1)
    # Unused parts of an atlas are black or white.
    used = (pixels.max(axis=-1) > _TOLERANCE) & (pixels.min(axis=-1) < 255 - _TOLERANCE)
    if not used.any():
        return
    odd = float(((lengths > _MAX_LENGTH) | (lengths < _MIN_LENGTH))[used].mean())
    if odd > 0.5:
        raise DataError(
            f"{odd:.0%} of the vectors are not of unit length, as in a colour picture or a mask. Replace it."
        )
    inward = float((vectors[..., 2] < -0.1)[used].mean())
    if inward > _FEW:
        raise DataError(
            f"{inward:.0%} of the vectors point into the surface, as in a model-space normal map; expected a "
            "tangent-space normal map. Remove it."
        )


def _is_grey(pixels: Bytes) -> bool:
    red, green, blue = (pixels[..., channel].astype(np.int16) for channel in range(3))
    alike = (np.abs(red - green) <= _TOLERANCE) & (np.abs(green - blue) <= _TOLERANCE)
    return bool(alike.mean() >= _NEARLY_ALL)


def _span(values: _Values) -> int:
    """Return the largest range of a channel without the outer 1 % at each end, which compression causes."""
    flat = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values.reshape(-1, 1)
    low, high = np.quantile(flat, (0.01, 0.99), axis=0)
    return int((high - low).max())


def _is_extreme(values: Bytes) -> bool:
    """Return whether the median of a channel is close to 0 or 255."""
    middle = float(np.median(values))
    return middle <= _TOLERANCE or middle >= 255 - _TOLERANCE


def _is_empty(z: Bytes) -> bool:
    """Return whether a blue channel is constant at a value that tools use as filling: 0, 128 or 255."""
    middle = float(np.median(z))
    return _span(z) <= _TOLERANCE and (_is_extreme(z) or abs(middle - _MIDDLE) <= _TOLERANCE)


def _squared_lengths(xy: Bytes) -> _Values:
    """Return the squared length of X and Y, ``(H, W, 1)``."""
    values = xy.astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)
    squares: _Values = np.square(values).sum(axis=-1, keepdims=True)
    return squares


def _disc_share(xy: Bytes) -> float:
    """Return the share of pixels whose X and Y are within the unit disc."""
    return float((_squared_lengths(xy) <= 1.1).mean())


def _z_follows_from_xy(xy: Bytes, z: Bytes) -> bool:
    """Return whether a constant Z equals the Z computed from X and Y, as on a nearly flat surface."""
    expected = np.sqrt(np.clip(1.0 - _squared_lengths(xy), 0.0, 1.0)) * 127.5 + 127.5
    return bool(np.abs(expected - z).mean() <= _TOLERANCE)

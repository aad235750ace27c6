"""Pixels that are not compressed in blocks, and floats of any kind, to 8 bits a channel."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np

from pbrlib.colour import linear_to_srgb
from pbrlib.textures.blocks import Bytes
from pbrlib.textures.layouts import Floats, Masks, Palette
from pbrlib.textures.metadata import Use

FloatPixels: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]

_ROWS = 256
"""Rows that are unpacked at once: bounds the memory that wide numbers take."""


def unmask(data: bytes, masks: Masks, *, width: int, height: int, row_bytes: int, signed: bool) -> Bytes:
    """Unpacks the bits under masks.

    Args:
        data: The rows.
        masks: Where the channels are.
        width: Pixels of a row.
        height: Rows.
        row_bytes: Bytes of a row, with what fills it up.
        signed: Whether the numbers are two's complement; [-1, 1] becomes 0..255, as normals are stored.
            An alpha with fewer bits than red has no sign.

    Returns:
        ``(height, width, C)``: C is 2 if only red and green are stored, else 4 (RGBA), where a channel that
        is not stored is 0, alpha 255.
    """
    rows = np.frombuffer(data, np.uint8).reshape(height, row_bytes)[:, : width * masks.num_bytes]
    stored = rows.reshape(height, width, masks.num_bytes)
    red, green, blue, alpha = masks.channels
    num_channels = 2 if red and green and not blue and not alpha else 4
    pixels = np.zeros((height, width, num_channels), np.uint8)
    for channel, mask in enumerate(masks.channels[:num_channels]):
        has_sign = signed and (channel < 3 or mask.bit_count() == red.bit_count())
        if mask == masks.channels[0] and channel in (1, 2):
            pixels[..., channel] = pixels[..., 0]
        elif mask:
            _unpack(stored, mask, pixels[..., channel], signed=has_sign)
        elif channel == 3:
            pixels[..., channel] = 255
    return pixels


def _unpack(stored: Bytes, mask: int, out: Bytes, *, signed: bool) -> None:
    shift = (mask & -mask).bit_length() - 1
    num_bits = mask.bit_count()
    if num_bits == 8 and shift % 8 == 0 and not signed:
        out[...] = stored[..., shift // 8]
        return
    if num_bits > 16:  # what 8 bits cannot hold anyway
        shift, num_bits = shift + num_bits - 16, 16
    table = _table(num_bits, signed)
    kept = np.uint64((1 << num_bits) - 1)
    first, last = shift // 8, (shift + num_bits - 1) // 8
    for top in range(0, len(stored), _ROWS):
        band = stored[top : top + _ROWS]
        words = np.zeros(band.shape[:2], np.uint64 if last - first > 3 else np.uint32)
        for byte in range(first, last + 1):
            words |= band[..., byte].astype(words.dtype) << words.dtype.type(8 * (byte - first))
        out[top : top + _ROWS] = table[(words >> words.dtype.type(shift % 8)) & words.dtype.type(kept)]


@cache
def _table(num_bits: int, signed: bool) -> Bytes:
    """What every number of some bits is of 255; numbers with a sign are in two's complement."""
    numbers = np.arange(1 << num_bits, dtype=np.float64)
    if not signed:
        return np.rint(numbers * (255.0 / (len(numbers) - 1))).astype(np.uint8)
    half = len(numbers) // 2
    numbers[half:] -= len(numbers)
    return np.rint((np.maximum(numbers / max(half - 1, 1), -1.0) + 1.0) * 127.5).astype(np.uint8)


def look_up(data: bytes, palette: Palette, *, width: int, height: int, row_bytes: int) -> Bytes:
    """The RGBA of numbers in a palette, ``(height, width, 4)``."""
    numbers = np.frombuffer(data, np.uint8).reshape(height, row_bytes)[:, :width]
    return np.frombuffer(palette.colours, np.uint8).reshape(256, 4)[numbers]


def read_floats(data: bytes, floats: Floats, *, width: int, height: int) -> FloatPixels:
    """Floats as they are stored, ``(height, width, C)``."""
    kind = {2: "<f2", 4: "<f4"}[floats.channel_bytes]
    return np.frombuffer(data, kind).reshape(height, width, floats.num_channels)


def read_packed_floats(data: bytes, *, width: int, height: int) -> FloatPixels:
    """R11G11B10_FLOAT as floats of 16 bits, ``(height, width, 3)``: their exponents are the same."""
    words = np.frombuffer(data, "<u4").reshape(height, width)
    red, green, blue = (words & 0x7FF) << 4, (words >> 11 & 0x7FF) << 4, (words >> 22) << 5
    return np.stack((red, green, blue), axis=-1).astype("<u2").view("<f2")


def quantise_floats(values: FloatPixels, *, use: Use) -> tuple[Bytes, tuple[str, ...]]:
    """Brings floats to 8 bits, in the channels of ``unmask``.

    A colour in floats is linear light and becomes sRGB. A normal with negative numbers spans [-1, 1],
    everything else [0, 1]; what lies outside is clipped, what is no number becomes 0.

    Args:
        values: ``(H, W, C)``.
        use: What they are read for.

    Returns:
        The pixels, and what a user should know of them.
    """
    height, width, num_channels = values.shape
    signed = use == "normal" and bool((values[..., :2] < 0).any())
    pixels = np.full((height, width, num_channels if num_channels < 3 else 4), 255, np.uint8)
    bright = 0
    for top in range(0, height, _ROWS):
        band = np.nan_to_num(values[top : top + _ROWS].astype(np.float32), nan=0.0, posinf=2.0, neginf=-2.0)
        bright += int((band[..., :3] > 1.0).any(axis=-1).sum())
        if signed:
            band = band * 0.5 + 0.5
        unit = np.clip(band, 0.0, 1.0)
        if use == "colour":
            unit[..., :3] = linear_to_srgb(unit[..., :3])
        pixels[top : top + _ROWS, :, :num_channels] = np.rint(unit * 255.0).astype(np.uint8)
    notes = ["floats of linear light brought to sRGB"] if use == "colour" else []
    if bright:
        notes.append(f"{bright / (height * width):.0%} of its pixels are brighter than 1 and were clipped")
    return pixels, tuple(notes)

"""Converts uncompressed pixels and floats to 8 bits per channel."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np

from pbrlib.colour import linear_to_srgb
from pbrlib.textures.blocks import Bytes
from pbrlib.textures.layouts import Floats, Masks, Palette
from pbrlib.textures.metadata import Use

FloatPixels: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]

_ROWS_AT_ONCE = 256
"""Number of rows that are unpacked at once, which bounds the memory of intermediate wide integers."""


def unpack_masks(
    data: bytes, masks: Masks, *, width: int, height: int, row_bytes: int, signed: bool
) -> Bytes:
    """Unpack channels that are stored as bit fields.

    Args:
        data: The bytes of all rows.
        masks: The bit mask of each channel.
        width: Number of pixels per row.
        height: Number of rows.
        row_bytes: Bytes per row, with padding.
        signed: Whether values are two's complement in [-1, 1]; they are returned as 0..255, the encoding of
            stored normals. An alpha with fewer bits than red is unsigned.

    Returns:
        ``(height, width, C)``: C is 2 if only red and green are stored, else 4 (RGBA). A missing colour is 0,
        a missing alpha 255.
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
    if num_bits > 16:  # the lowest bits are lost in 8 bits anyway
        shift, num_bits = shift + num_bits - 16, 16
    table = _value_table(num_bits, signed)
    kept = np.uint64((1 << num_bits) - 1)
    first, last = shift // 8, (shift + num_bits - 1) // 8
    for top in range(0, len(stored), _ROWS_AT_ONCE):
        band = stored[top : top + _ROWS_AT_ONCE]
        words = np.zeros(band.shape[:2], np.uint64 if last - first > 3 else np.uint32)
        for byte in range(first, last + 1):
            words |= band[..., byte].astype(words.dtype) << words.dtype.type(8 * (byte - first))
        out[top : top + _ROWS_AT_ONCE] = table[
            (words >> words.dtype.type(shift % 8)) & words.dtype.type(kept)
        ]


@cache
def _value_table(num_bits: int, signed: bool) -> Bytes:
    """Return the byte for each value of ``num_bits`` bits; signed values are two's complement."""
    numbers = np.arange(1 << num_bits, dtype=np.float64)
    if not signed:
        return np.rint(numbers * (255.0 / (len(numbers) - 1))).astype(np.uint8)
    half = len(numbers) // 2
    numbers[half:] -= len(numbers)
    return np.rint((np.maximum(numbers / max(half - 1, 1), -1.0) + 1.0) * 127.5).astype(np.uint8)


def apply_palette(data: bytes, palette: Palette, *, width: int, height: int, row_bytes: int) -> Bytes:
    """Return the RGBA colours of palette indices, ``(height, width, 4)``."""
    numbers = np.frombuffer(data, np.uint8).reshape(height, row_bytes)[:, :width]
    return np.frombuffer(palette.colours, np.uint8).reshape(256, 4)[numbers]


def unpack_floats(data: bytes, floats: Floats, *, width: int, height: int) -> FloatPixels:
    """Return stored floats as an array ``(height, width, C)``."""
    dtype = {2: "<f2", 4: "<f4"}[floats.channel_bytes]
    return np.frombuffer(data, dtype).reshape(height, width, floats.num_channels)


def unpack_packed_floats(data: bytes, *, width: int, height: int) -> FloatPixels:
    """Return R11G11B10_FLOAT pixels as float16 ``(height, width, 3)``; both have 5 exponent bits."""
    words = np.frombuffer(data, "<u4").reshape(height, width)
    red, green, blue = (words & 0x7FF) << 4, (words >> 11 & 0x7FF) << 4, (words >> 22) << 5
    return np.stack((red, green, blue), axis=-1).astype("<u2").view("<f2")


def quantise_floats(values: FloatPixels, *, use: Use) -> tuple[Bytes, tuple[str, ...]]:
    """Quantise floats to 8 bits, with the channels that ``unpack_masks`` returns.

    Colours are converted from linear light to sRGB. Normals with negative values are in [-1, 1], all other
    values in [0, 1]. Values outside of the range are clipped; NaN becomes 0.

    Args:
        values: ``(H, W, C)``.
        use: The purpose of the pixels.

    Returns:
        The pixels, and notes for the user.
    """
    height, width, num_channels = values.shape
    signed = use == "normal" and bool((values[..., :2] < 0).any())
    pixels = np.full((height, width, num_channels if num_channels < 3 else 4), 255, np.uint8)
    bright = 0
    for top in range(0, height, _ROWS_AT_ONCE):
        band = np.nan_to_num(
            values[top : top + _ROWS_AT_ONCE].astype(np.float32), nan=0.0, posinf=2.0, neginf=-2.0
        )
        bright += int((band[..., :3] > 1.0).any(axis=-1).sum())
        if signed:
            band = band * 0.5 + 0.5
        unit = np.clip(band, 0.0, 1.0)
        if use == "colour":
            unit[..., :3] = linear_to_srgb(unit[..., :3])
        pixels[top : top + _ROWS_AT_ONCE, :, :num_channels] = np.rint(unit * 255.0).astype(np.uint8)
    notes = ["floats converted from linear light to sRGB"] if use == "colour" else []
    if bright:
        notes.append(f"{bright / (height * width):.0%} of the pixels are brighter than 1 and were clipped")
    return pixels, tuple(notes)

"""Encodes and decodes a single channel in blocks of 8 bytes: BC4, each half of BC5, and the alpha of BC3.

A block of 4 x 4 pixels stores two end values and, for each pixel, the index of one of eight values from one
end to the other. Source: Microsoft, "Programming Guide for DDS", BC4_UNORM. The interpolated values are
fractions, and graphics cards do not round them. etcpak uses the extremes as ends and rounds down, which
darkened heights by 0.4 of 255 on average.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

LAST_STEP = 7
"""Number of the step at the upper end; the lower end is step 0."""

_BLOCKS_AT_ONCE = 1 << 16  # bounds the memory: all blocks of an 8192 px texture would take gigabytes


def encode_scalar_blocks(channel: Bytes) -> Bytes:
    """Return the blocks ``(n, 8)``, row by row, of a channel ``(H, W)`` whose sides are multiples of 4."""
    height, width = channel.shape
    blocks = channel.reshape(height // 4, 4, width // 4, 4).swapaxes(1, 2).reshape(-1, 16)
    parts = [
        _encode(blocks[i : i + _BLOCKS_AT_ONCE].astype(np.float32))
        for i in range(0, len(blocks), _BLOCKS_AT_ONCE)
    ]
    return np.concatenate(parts)


def decode_scalar_blocks(blocks: Bytes, *, height: int, width: int) -> Bytes:
    """Return the channel ``(height, width)``, multiples of 4, of blocks ``(n, 8)``; values are rounded.

    bcdec truncates the interpolated values instead, which darkens a channel by up to 0.4 of 255.
    """
    pixels = np.empty((len(blocks), 16), np.uint8)
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        pixels[start : start + _BLOCKS_AT_ONCE] = _decode(blocks[start : start + _BLOCKS_AT_ONCE])
    tiles = pixels.reshape(height // 4, width // 4, 4, 4)
    return tiles.swapaxes(1, 2).reshape(height, width)


def _decode(blocks: Bytes) -> Bytes:
    ends = blocks[:, :2].astype(np.int32)
    first, second = ends[:, :1], ends[:, 1:]
    sevenths, fifths = np.arange(1, 7), np.arange(1, 5)
    # Adding half the divisor, rounded down, before the division rounds to nearest; odd divisors have no ties.
    long = ((7 - sevenths) * first + sevenths * second + 3) // 7
    short = ((5 - fifths) * first + fifths * second + 2) // 5
    extremes = np.broadcast_to(np.array([[0, 255]]), ends.shape)
    between = np.where(first > second, long, np.concatenate((short, extremes), axis=1))
    palette = np.concatenate((ends, between), axis=1).astype(np.uint8)
    word = np.zeros(len(blocks), np.uint64)
    for byte in range(6):
        word |= blocks[:, 2 + byte].astype(np.uint64) << np.uint64(8 * byte)
    index = (word[:, None] >> (3 * np.arange(16, dtype=np.uint64))) & np.uint64(7)
    return np.take_along_axis(palette, index.astype(np.intp), axis=1)


def _encode(values: Floats) -> Bytes:
    """Return blocks of values ``(n, 16)``; each block uses the best of three candidate pairs of ends."""
    low, high = values.min(axis=1), values.max(axis=1)
    candidates = [(low, high), _integer_ends(low, high), _fitted_ends(values, low, high)]
    errors = np.stack([_squared_error(values, *ends) for ends in candidates])
    best = errors.argmin(axis=0)
    low, high = (np.choose(best, [ends[i] for ends in candidates]) for i in (0, 1))
    return _pack(low, high, _steps(values, low, high))


def _integer_ends(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Return ends that differ by seven, so that the eight steps are consecutive integers."""
    start = np.where(high > low, np.minimum(low, np.float32(255 - LAST_STEP)), low)
    return start, np.where(high > low, start + np.float32(LAST_STEP), low)


def _fitted_ends(values: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Return the least-squares ends for the steps that the extremes give."""
    t = _steps(values, low, high) / np.float32(LAST_STEP)
    mean_t, mean_v = t.mean(axis=1), values.mean(axis=1)
    spread = np.square(t - mean_t[:, None]).sum(axis=1)
    slope = ((t - mean_t[:, None]) * (values - mean_v[:, None])).sum(axis=1) / np.maximum(spread, 1e-6)
    start = mean_v - slope * mean_t
    ends = (np.clip(np.rint(end), 0.0, 255.0).astype(np.float32) for end in (start, start + slope))
    fitted_low, fitted_high = ends
    usable = fitted_high > fitted_low
    return np.where(usable, fitted_low, low), np.where(usable, fitted_high, high)


def _steps(values: Floats, low: Floats, high: Floats) -> Floats:
    """Return the nearest step of each value, from 0 at the lower end to 7 at the upper end."""
    span = np.maximum(high - low, np.float32(1.0))[:, None]
    steps: Floats = np.clip(np.rint((values - low[:, None]) * np.float32(LAST_STEP) / span), 0.0, LAST_STEP)
    return steps


def _squared_error(values: Floats, low: Floats, high: Floats) -> Floats:
    decoded = low[:, None] + _steps(values, low, high) * ((high - low) / np.float32(LAST_STEP))[:, None]
    error: Floats = np.square(values - decoded).sum(axis=1)
    return error


def _pack(low: Floats, high: Floats, steps: Floats) -> Bytes:
    """Pack the ends, upper end first, and three bits per pixel; all indices are 0 in a constant block."""
    number = steps.astype(np.uint64)
    index = np.where(number == LAST_STEP, 0, np.where(number == 0, 1, LAST_STEP + 1 - number)).astype(
        np.uint64
    )
    index[high <= low] = 0
    word = (index << (3 * np.arange(16, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)
    word = (word << np.uint64(16)) | (low.astype(np.uint64) << np.uint64(8)) | high.astype(np.uint64)
    packed: Bytes = word.astype("<u8")[:, None].view(np.uint8)
    return packed

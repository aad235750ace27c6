"""Encodes and decodes one channel in blocks of 8 bytes: BC4, each half of BC5, the alpha of BC3.

A block of 4 x 4 pixels holds two ends and, for each pixel, which of eight values from one end to the other
it takes. Source: Microsoft, "Programming Guide for DDS", BC4_UNORM. The values between the ends are
fractions, which a graphics card keeps. etcpak takes the extremes as ends and rounds down: heights came out
darker by 0.4 of 255.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

LAST = 7
"""The step of the upper end; the lower is step 0."""

_CHUNK = 1 << 16  # blocks at a time: a texture of 8192 px would take gigabytes at once


def encode_scalar_blocks(channel: Bytes) -> Bytes:
    """The blocks of a channel ``(H, W)``, row by row, sides multiples of 4. Shape (blocks, 8)."""
    height, width = channel.shape
    blocks = channel.reshape(height // 4, 4, width // 4, 4).swapaxes(1, 2).reshape(-1, 16)
    parts = [_encoded(blocks[i : i + _CHUNK].astype(np.float32)) for i in range(0, len(blocks), _CHUNK)]
    return np.concatenate(parts)


def decode_scalar_blocks(blocks: Bytes, *, height: int, width: int) -> Bytes:
    """The channel ``(height, width)``, multiples of 4, of blocks ``(n, 8)``, rounded to the nearest.

    bcdec drops the fractions of the values between the ends, which darkens a channel by up to 0.4 of 255.
    """
    whole = np.empty((len(blocks), 16), np.uint8)
    for start in range(0, len(blocks), _CHUNK):
        whole[start : start + _CHUNK] = _decoded(blocks[start : start + _CHUNK])
    tiles = whole.reshape(height // 4, width // 4, 4, 4)
    return tiles.swapaxes(1, 2).reshape(height, width)


def _decoded(blocks: Bytes) -> Bytes:
    ends = blocks[:, :2].astype(np.int32)
    first, second = ends[:, :1], ends[:, 1:]
    sevenths, fifths = np.arange(1, 7), np.arange(1, 5)
    # Half a divisor, less a fraction, rounds to the nearest: odd divisors leave no half.
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


def _encoded(values: Floats) -> Bytes:
    """Blocks of values ``(n, 16)`` with the ends, of three candidates, that leave the least square error."""
    low, high = values.min(axis=1), values.max(axis=1)
    candidates = [(low, high), _whole_steps(low, high), _fitted(values, low, high)]
    errors = np.stack([_error(values, *ends) for ends in candidates])
    best = errors.argmin(axis=0)
    low, high = (np.choose(best, [ends[i] for ends in candidates]) for i in (0, 1))
    return _packed(low, high, _steps(values, low, high))


def _whole_steps(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Ends seven apart, between which eight neighbouring integers lie exactly."""
    start = np.where(high > low, np.minimum(low, np.float32(255 - LAST)), low)
    return start, np.where(high > low, start + np.float32(LAST), low)


def _fitted(values: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The ends nearest to the values by least squares, given the steps between the extremes."""
    t = _steps(values, low, high) / np.float32(LAST)
    mean_t, mean_v = t.mean(axis=1), values.mean(axis=1)
    spread = np.square(t - mean_t[:, None]).sum(axis=1)
    slope = ((t - mean_t[:, None]) * (values - mean_v[:, None])).sum(axis=1) / np.maximum(spread, 1e-6)
    start = mean_v - slope * mean_t
    ends = (np.clip(np.rint(end), 0.0, 255.0).astype(np.float32) for end in (start, start + slope))
    fitted_low, fitted_high = ends
    usable = fitted_high > fitted_low
    return np.where(usable, fitted_low, low), np.where(usable, fitted_high, high)


def _steps(values: Floats, low: Floats, high: Floats) -> Floats:
    """The nearest step of each value, from 0 at the lower end to 7 at the upper."""
    span = np.maximum(high - low, np.float32(1.0))[:, None]
    steps: Floats = np.clip(np.rint((values - low[:, None]) * np.float32(LAST) / span), 0.0, LAST)
    return steps


def _error(values: Floats, low: Floats, high: Floats) -> Floats:
    shown = low[:, None] + _steps(values, low, high) * ((high - low) / np.float32(LAST))[:, None]
    error: Floats = np.square(values - shown).sum(axis=1)
    return error


def _packed(low: Floats, high: Floats, steps: Floats) -> Bytes:
    """Ends, the upper first, and three bits a pixel; in a block of one value all are index 0."""
    number = steps.astype(np.uint64)
    index = np.where(number == LAST, 0, np.where(number == 0, 1, LAST + 1 - number)).astype(np.uint64)
    index[high <= low] = 0
    word = (index << (3 * np.arange(16, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)
    word = (word << np.uint64(16)) | (low.astype(np.uint64) << np.uint64(8)) | high.astype(np.uint64)
    packed: Bytes = word.astype("<u8")[:, None].view(np.uint8)
    return packed

"""Finds near-duplicates by a perceptual hash of 64 bits: copies that are reduced, compressed or brighter.

The hash is the DCT hash of Zauner (2010), "Implementation and Benchmarking of Perceptual Image Hash
Functions": the signs of the 64 lowest frequencies of a picture of 32 x 32 px, relative to their median. It
does not detect copies that are cropped, rotated or shifted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pbrlib.maps import ALBEDO, DIFFUSE, Stored

if TYPE_CHECKING:
    from pbrlib.data.shards.index import IndexRow

HASHED_MAPS = (ALBEDO.name, DIFFUSE.name)
"""The maps that are hashed; the first one that a material has is used."""

MAX_DISTANCE = 8
"""Maximum number of differing bits of near-duplicates.

Measured: unrelated pictures differ by 32 bits on average, and no two of 25 scanned and 1 010 generated
albedos by fewer than 12. Block compression changes at most 6 bits, and 10 in one nearly plain scan.
"""

MIN_CONTRAST = 0.5
"""Pictures with a weaker median frequency (of 255) have no hash, since its bits would be noise."""

_SIDE, _FREQUENCIES = 32, 8
_LUMA = (0.299, 0.587, 0.114)
_ROWS_AT_ONCE = 1024

Hashes: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]


def perceptual_hash(colours: Stored) -> int | None:
    """Return the hash of a colour map ``(H, W, 3)`` uint8, or None for a map without contrast."""
    from PIL import Image

    luma = Image.fromarray(colours.astype(np.float32) @ np.array(_LUMA, np.float32))
    small = np.asarray(luma.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    basis = _basis()
    frequencies = (basis @ small @ basis.T).ravel()
    if np.median(np.abs(frequencies)) < MIN_CONTRAST:
        return None
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes())


def distance(first: int, second: int) -> int:
    """Return the number of differing bits of two hashes."""
    return (first ^ second).bit_count()


def pairs_across_splits(rows: Sequence[IndexRow]) -> Iterator[tuple[IndexRow, IndexRow, int]]:
    """Yield near-duplicates of a validation and a training material, and their distance."""
    train = [row for row in rows if row.split == "train" and row.phash is not None]
    val = [row for row in rows if row.split == "val" and row.phash is not None]
    if not train or not val:
        return
    trained = _hashes(train)
    for start in range(0, len(val), _ROWS_AT_ONCE):
        part = val[start : start + _ROWS_AT_ONCE]
        apart = np.bitwise_count(_hashes(part)[:, None] ^ trained[None])
        for held, seen in zip(*np.nonzero(apart <= MAX_DISTANCE), strict=True):
            yield part[held], train[seen], int(apart[held, seen])


def _hashes(rows: Sequence[IndexRow]) -> Hashes:
    return np.array([row.phash for row in rows], np.uint64)


@cache
def _basis() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return rows 1 to 8 of the orthonormal DCT-II; row 0 is the mean, which the hash ignores."""
    frequency, place = np.arange(1, _FREQUENCIES + 1)[:, None], np.arange(_SIDE)[None]
    waves = np.cos(np.pi * (2 * place + 1) * frequency / (2 * _SIDE))
    basis: np.ndarray[Any, np.dtype[np.float64]] = np.sqrt(2 / _SIDE) * waves
    return basis

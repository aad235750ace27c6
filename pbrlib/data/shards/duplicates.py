"""Near-duplicates by a perceptual hash of 64 bits: the same picture again, reduced, compressed or brighter.

The hash is the DCT hash of Zauner (2010), "Implementation and Benchmarking of Perceptual Image Hash
Functions": the signs of the 64 lowest frequencies of a picture of 32 x 32 px, about their median. It does
not know a picture that is cut, turned or moved across its border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pbrlib.maps import ALBEDO, DIFFUSE, Stored

if TYPE_CHECKING:
    from pbrlib.data.shards.index import IndexRow

HASHED = (ALBEDO.name, DIFFUSE.name)
"""The maps that stand for a material, the one that is taken first at the front."""

NEAR = 8
"""Bits by which the hashes of near-duplicates differ at most. Two unrelated pictures differ by 32; no two of
25 scanned and 1 010 generated albedos are nearer than 12. Block compression changes 6 at most; 10 in one scan
that is nearly plain."""

LEAST_CONTRAST = 0.5
"""Pictures whose median frequency is weaker than this, of 255, have no hash: its bits would be noise."""

_SIDE, _FREQUENCIES = 32, 8
_LUMA = (0.299, 0.587, 0.114)
_ROWS_AT_ONCE = 1024

Hashes: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]


def perceptual_hash(colours: Stored) -> int | None:
    """The hash of a colour map ``(H, W, 3)`` uint8; None for one without contrast, such as a plain colour."""
    from PIL import Image

    luma = Image.fromarray(colours.astype(np.float32) @ np.array(_LUMA, np.float32))
    small = np.asarray(luma.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    basis = _basis()
    frequencies = (basis @ small @ basis.T).ravel()
    if np.median(np.abs(frequencies)) < LEAST_CONTRAST:
        return None
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes())


def distance(one: int, other: int) -> int:
    """The number of bits by which two hashes differ."""
    return (one ^ other).bit_count()


def across_splits(rows: Sequence[IndexRow]) -> Iterator[tuple[IndexRow, IndexRow, int]]:
    """Pairs of a material to validate and one to train on that are near-duplicates, and their distance."""
    train = [row for row in rows if row.split == "train" and row.phash is not None]
    val = [row for row in rows if row.split == "val" and row.phash is not None]
    if not train or not val:
        return
    trained = _hashes(train)
    for start in range(0, len(val), _ROWS_AT_ONCE):
        part = val[start : start + _ROWS_AT_ONCE]
        apart = np.bitwise_count(_hashes(part)[:, None] ^ trained[None])
        for held, seen in zip(*np.nonzero(apart <= NEAR), strict=True):
            yield part[held], train[seen], int(apart[held, seen])


def _hashes(rows: Sequence[IndexRow]) -> Hashes:
    return np.array([row.phash for row in rows], np.uint64)


@cache
def _basis() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows 1 to 8 of the orthonormal DCT-II: a constant, row 0, says nothing of a picture."""
    frequency, place = np.arange(1, _FREQUENCIES + 1)[:, None], np.arange(_SIDE)[None]
    waves = np.cos(np.pi * (2 * place + 1) * frequency / (2 * _SIDE))
    basis: np.ndarray[Any, np.dtype[np.float64]] = np.sqrt(2 / _SIDE) * waves
    return basis

"""Counts the pixels of each class in the cells of a texture.

The index stores these counts, so that the class shares of a crop are known without reading pixels.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pbrlib.errors import DataError
from pbrlib.maps import CLASSES, Stored

if TYPE_CHECKING:
    from pbrlib.data.shards.index import IndexRow

CELL = 64
"""Side of a cell in pixels; cells at the lower and right border may be smaller."""

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.uint16]]
"""Pixel counts ``(K, rows of cells, columns of cells)``; an ignored pixel belongs to no class."""


def count_cells(mask: Stored) -> Counts:
    """Count the pixels of each class in each cell of a stored mask ``(H, W, 1)``."""
    labels = mask[..., 0]
    rows, columns = (np.arange(0, side, CELL) for side in labels.shape)
    counts = np.zeros((len(CLASSES), len(rows), len(columns)), dtype=np.uint16)
    for number in np.flatnonzero(np.bincount(labels.ravel(), minlength=len(CLASSES))[: len(CLASSES)]):
        of_rows = np.add.reduceat(labels == number, rows, axis=0, dtype=np.uint16)
        counts[number] = np.add.reduceat(of_rows, columns, axis=1, dtype=np.uint16)
    return counts


def pack_cells(counts: Counts, *, num_pixels: int) -> bytes:
    """Return the counts in the form of the index: deflated little-endian uint16, planar.

    The result is empty if one class has all ``num_pixels`` of the texture, or no pixel has a class; the
    pixels by class are sufficient then.
    """
    totals = counts.sum(axis=(1, 2), dtype=np.int64)
    if totals.sum() == 0 or totals.max() == num_pixels:
        return b""
    return zlib.compress(counts.astype("<u2").tobytes())


def cells_of(row: IndexRow) -> Counts:
    """Return the counts of a material of the index; raises DataError if they are damaged."""
    down, across = -(-row.height // CELL), -(-row.width // CELL)
    if row.cells:
        packed = np.frombuffer(_inflate(row, num_bytes=2 * len(CLASSES) * down * across), dtype="<u2")
        return packed.astype(np.uint16).reshape(len(CLASSES), down, across)
    covered = np.asarray(row.class_pixels) > 0
    heights, widths = (
        np.minimum(CELL, side - CELL * np.arange(num))
        for side, num in ((row.height, down), (row.width, across))
    )
    counts: Counts = (covered[:, None, None] * np.outer(heights, widths)).astype(np.uint16)
    return counts


def _inflate(row: IndexRow, *, num_bytes: int) -> bytes:
    """Inflate the packed counts, but no more bytes than expected."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(row.cells, num_bytes + 1)
    except zlib.error as error:
        raise DataError(
            f"{row.id}: cells of the index are damaged ({error}). Prepare the set again."
        ) from error
    if len(content) != num_bytes or not stream.eof:
        raise DataError(
            f"{row.id}: got damaged cells in the index; expected {num_bytes} bytes. Prepare the set again."
        )
    return content

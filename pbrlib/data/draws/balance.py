"""Balances rare classes: their statistics, class weights, and which textures and tiles are drawn more often.

All values are computed from the index of a shard set; no pixel is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pbrlib.data.draws.drawspec import BalanceSpec, SamplerSpec
from pbrlib.data.shards.cells import CELL, cells_of, pack_cells
from pbrlib.data.shards.index import IndexRow
from pbrlib.maps import CLASSES, class_id

MAX_WEIGHT = 10
"""Maximum weight of a class, relative to the most frequent class; reached at 1/100 of its pixels."""

MINORITY_SHARE = 0.03
"""Minimum share of minority pixels in a minority tile."""

MIN_TILE_PX = 128
"""Minimum side of a minority tile; a smaller crop is placed at random inside the tile."""


def minority_classes(class_pixels: Sequence[int]) -> tuple[int, ...]:
    """Return the classes whose pixel share is positive and below half of the median of positive shares."""
    pixels = np.asarray(class_pixels, dtype=np.float64)
    present = pixels > 0
    if not present.any():
        return ()
    threshold = 0.5 * np.median(pixels[present])
    return tuple(int(c) for c in np.flatnonzero(present & (pixels < threshold)))


def minority_of(rows: Sequence[IndexRow], balance: BalanceSpec) -> tuple[int, ...]:
    """Return the ids of the minority classes: the declared ones, else those computed from the pixels."""
    if balance.minority is None:
        return minority_classes(class_pixels(rows))
    return tuple(class_id(name) for name in balance.minority)


def class_pixels(rows: Sequence[IndexRow]) -> tuple[int, ...]:
    """Return the numbers of labelled pixels of textures by class id."""
    return tuple(sum(row.class_pixels[number] for row in rows) for number in range(len(CLASSES)))


def class_weights(class_pixels: Sequence[int]) -> np.ndarray:
    """Return weights w_c = 1 / sqrt(share of c) with mean 1 over the present classes, shape (K,).

    An absent class has the weight 1. Before the division by the mean, weights are capped at
    :data:`MAX_WEIGHT` times the smallest weight, since a class of a few pixels would dominate the others.
    :func:`capped_classes` returns the capped classes.
    """
    pixels = np.asarray(class_pixels, dtype=np.float64)
    weights = np.ones_like(pixels)
    present = pixels > 0
    if present.any():
        raw = 1.0 / np.sqrt(pixels[present] / pixels.sum())
        capped = np.minimum(raw, MAX_WEIGHT * raw.min())
        weights[present] = capped / capped.mean()
    return weights


def capped_classes(class_pixels: Sequence[int]) -> tuple[int, ...]:
    """Return the present classes that are so rare that :data:`MAX_WEIGHT` caps their weight."""
    pixels = np.asarray(class_pixels, dtype=np.float64)
    rare = (pixels > 0) & (pixels * MAX_WEIGHT**2 < pixels.max(initial=0.0))
    return tuple(int(c) for c in np.flatnonzero(rare))


def describe_capped(class_pixels: Sequence[int]) -> str | None:
    """Return a sentence on the classes of :func:`capped_classes` with their shares, or None without any."""
    capped = capped_classes(class_pixels)
    if not capped:
        return None
    largest = max(class_pixels)
    shares = ", ".join(f"{CLASSES[c]} {class_pixels[c] / largest:.2g}" for c in capped)
    return (
        f"class weights: got {shares} of the pixels of the most frequent class; expected at least "
        f"{MAX_WEIGHT**-2:g}. The weight is capped at {MAX_WEIGHT} times the smallest. "
        "Add textures of the class, merge it into another, or correct the masks."
    )


def sampler_weights(rows: Sequence[IndexRow], *, spec: SamplerSpec, minority: Sequence[int]) -> np.ndarray:
    """Return a weight per row with mean 1, ``max(minority_fraction ** exponent, floor)``, shape (n,)."""
    pixels = np.asarray([row.class_pixels for row in rows], dtype=np.float64).reshape(len(rows), len(CLASSES))
    fraction = pixels[:, list(minority)].sum(axis=1) / np.maximum(pixels.sum(axis=1), 1.0)
    weights = np.maximum(fraction**spec.exponent, spec.floor)
    normalised: np.ndarray = weights / weights.mean()
    return normalised


@dataclass(frozen=True)
class Tiles:
    """Square tiles of ``side`` pixels: for each tile its texture (a position in the rows) and its corner."""

    side: int
    row: np.ndarray
    y: np.ndarray
    x: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def among(self, rows: Sequence[int]) -> Tiles:
        """Return the tiles of some textures."""
        kept = np.isin(self.row, rows)
        return Tiles(self.side, self.row[kept], self.y[kept], self.x[kept])


def tile_side(crop: int) -> int:
    """Return the side of minority tiles for a crop, in pixels."""
    return max(crop, MIN_TILE_PX)


def minority_tiles(rows: Sequence[IndexRow], *, crop: int, minority: Sequence[int]) -> Tiles:
    """Return the tiles of training textures with at least 3 % of pixels of minority classes.

    A tile has the side of the crop, but at least 128 px, and is inside of its texture. Corners are half a
    side apart, rounded to cells of the index. Only cells that are completely inside of a tile are counted, so
    that a tile may have more minority pixels than counted, but not fewer.
    """
    side = tile_side(crop)
    found = [
        np.stack([np.full(len(corners), number), *corners.T])
        for number, row in enumerate(rows)
        if row.split == "train" and any(row.class_pixels[c] for c in minority)
        for corners in [_minority_corners(row, side=side, minority=minority)]
    ]
    row, y, x = np.concatenate([np.zeros((3, 0)), *found], axis=1).astype(np.int64)
    return Tiles(side, row, y, x)


def _minority_corners(row: IndexRow, *, side: int, minority: Sequence[int]) -> np.ndarray:
    """Return the corners ``(n, 2)`` of the minority tiles of a texture."""
    cells = cells_of(row)[list(minority)].sum(axis=0, dtype=np.int64)
    summed = np.pad(cells.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    ys, top, bottom = _tile_cells(row.height, side=side)
    xs, left, right = _tile_cells(row.width, side=side)
    inside = (
        summed[np.ix_(bottom, right)]
        - summed[np.ix_(top, right)]
        - summed[np.ix_(bottom, left)]
        + summed[np.ix_(top, left)]
    )
    places = np.nonzero(inside >= MINORITY_SHARE * side**2)
    return np.stack([ys[places[0]], xs[places[1]]], axis=1)


def _tile_cells(length: int, *, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return along one axis the starts of tiles, and the range of cells that are completely in each tile."""
    stride = side // 2 // CELL * CELL
    starts = np.arange(0, length - side + 1, stride)
    ends = np.minimum(CELL * np.arange(1, -(-length // CELL) + 1), length)
    return starts, starts // CELL, np.searchsorted(ends, starts + side, side="right")


def merge_classes(rows: Sequence[IndexRow], merge: Mapping[str, str]) -> tuple[IndexRow, ...]:
    """Return rows in which the pixels of each merged class are counted as pixels of its target class."""
    return tuple(_merge_row(row, merge) for row in rows) if merge else tuple(rows)


def _merge_row(row: IndexRow, merge: Mapping[str, str]) -> IndexRow:
    if row.label not in merge and not any(row.class_pixels[class_id(name)] for name in merge):
        return row
    cells = cells_of(row)
    for source, target in merge.items():
        cells[class_id(target)] += cells[class_id(source)]
        cells[class_id(source)] = 0
    totals = tuple(int(total) for total in cells.sum(axis=(1, 2), dtype=np.int64))
    return replace(
        row,
        label=None if row.label is None else merge.get(row.label, row.label),
        class_pixels=totals,
        cells=pack_cells(cells, num_pixels=row.height * row.width),
    )


@dataclass(frozen=True)
class BalanceStatistics:
    """The statistics of balancing for some training textures.

    Attributes:
        shares: Share of each class in the labelled pixels.
        class_weights: Weight w_c of each class.
        minority: Names of the minority classes.
        sampler: Weight of each texture with the default sampler, with mean 1.
        tiles: Number of minority tiles by side of the crop.
    """

    shares: dict[str, float]
    class_weights: dict[str, float]
    minority: tuple[str, ...]
    sampler: np.ndarray
    tiles: dict[int, int]


def balance_statistics(rows: Sequence[IndexRow], *, crops: Sequence[int]) -> BalanceStatistics:
    """Return the statistics of the training textures among ``rows``, of which there is at least one."""
    train = [row for row in rows if row.split == "train"]
    pixels = class_pixels(train)
    minority = minority_classes(pixels)
    return BalanceStatistics(
        shares={name: count / max(sum(pixels), 1) for name, count in zip(CLASSES, pixels, strict=True)},
        class_weights=dict(zip(CLASSES, class_weights(pixels).tolist(), strict=True)),
        minority=tuple(CLASSES[number] for number in minority),
        sampler=sampler_weights(train, spec=SamplerSpec(), minority=minority),
        tiles={crop: len(minority_tiles(train, crop=crop, minority=minority)) for crop in crops},
    )

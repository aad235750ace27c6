"""Collates fetched draws to a batch of raw tensors, in the collate threads of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.fetch import crops_from_fetched, parts_of
from pbrlib.data.draws.mosaic import Layout
from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import DamageError
from pbrlib.maps import CLASSES, IGNORE, MAPS, Stored


def collate(fetched: pa.Table, shards: DataSet, *, maps: Sequence[str]) -> RawBatch:
    """Return a batch of the draws of ``fetched`` in their order; missing maps have their fill value.

    If the data set skips bad samples, a damaged draw is replaced by the nearest intact draw of the batch, by
    the earlier one of two, with its seeds. Sizes and counts of the batch do not change.

    Raises:
        DamageError: A draw is damaged and bad samples are not skipped, or all draws of the batch are damaged.
    """
    draws = fetched.to_pylist()
    crops: dict[int, list[dict[str, Stored]]] = {}
    damaged: list[tuple[str, str]] = []
    for number, draw in enumerate(draws):
        try:
            crops[number] = crops_from_fetched(draw, shards, maps)
        except DamageError as error:
            if shards.on_bad_sample == "fail":
                raise
            damaged.append((error.material or shards.rows[draw["sample"]].id, str(error)))
    if not crops:
        raise DamageError(f"all {len(draws)} draws of a batch are damaged. {damaged[0][1]}")
    taken = [min(crops, key=lambda other: (abs(other - number), other)) for number in range(len(draws))]
    draws = [draws[number] for number in taken]
    parts = [part for draw in draws for part in parts_of(draw)]
    layouts = tuple(Layout(draw["layout"]) for draw in draws)
    batch = stack(
        [crop for number in taken for crop in crops[number]],
        rows=[shards.rows[part["sample"]] for part in parts],
        seeds=[part["seed"] for part in parts],
        maps=maps,
        layouts=layouts if any(layouts) else None,
    )
    return replace(batch, replaced=tuple(damaged))


def stack(
    crops: Sequence[dict[str, Stored]],
    *,
    rows: Sequence[IndexRow],
    seeds: Sequence[int],
    maps: Sequence[str],
    layouts: tuple[Layout, ...] | None = None,
) -> RawBatch:
    """Stack stored crops ``(h, w, c)`` of one size to a batch ``(n, c, h, w)``."""
    height, width = next(iter(crops[0].values())).shape[:2]
    tensors: dict[str, torch.Tensor] = {}
    present: dict[str, torch.Tensor] = {}
    for name in maps:
        kind = MAPS[name]
        has = [name in crop for crop in crops]
        fills = np.array(kind.fills, dtype=kind.dtype)[:, None, None]
        stacked = np.broadcast_to(fills, (len(crops), kind.channels, height, width)).copy()
        for number, crop in enumerate(crops):
            if name in crop:
                stacked[number] = crop[name].transpose(2, 0, 1)
        tensors[name] = torch.from_numpy(stacked)
        present[name] = torch.tensor(has)
    return RawBatch(
        maps=tensors,
        present=present,
        seeds=torch.tensor(list(seeds), dtype=torch.int64),
        ids=tuple(row.id for row in rows),
        classes=torch.tensor([IGNORE if row.label is None else CLASSES.index(row.label) for row in rows]),
        layouts=layouts,
    )

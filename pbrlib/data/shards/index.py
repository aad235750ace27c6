"""The index of a shard set: one row per material, with everything that a plan needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from pbrlib.errors import DataError

Split: TypeAlias = Literal["train", "val"]


@dataclass(frozen=True)
class IndexRow:
    """A material of a shard set.

    ``shard`` is a position in the manifest's list of shards, ``first_row`` the row of the material's first
    tile in it. ``class_pixels`` are the numbers of pixels by class id, without ignored pixels; ``cells`` are
    the same numbers by cell (:func:`pbrlib.data.shards.cells.cells_of` unpacks them). ``means`` are the means
    of stored / maximum by channel, in [0, 1], for each map that is no label map. ``phash`` is the
    `pbrlib.data.shards.duplicates.perceptual_hash` of the albedo, else of the diffuse, or None without
    contrast. ``height_range`` are the minimum and maximum of the height before it was scaled to [0, 1].
    """

    id: str
    source: str
    family: str
    split: Split
    label: str | None
    shard: int
    first_row: int
    height: int
    width: int
    tileable: bool
    maps: tuple[str, ...]
    class_pixels: tuple[int, ...]
    cells: bytes
    means: dict[str, tuple[float, ...]]
    licence: str
    attribution: str
    phash: int | None = None
    height_range: tuple[float, float] | None = None


SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("first_row", pa.int64(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("tileable", pa.bool_(), nullable=False),
        pa.field("maps", pa.list_(pa.string()), nullable=False),
        pa.field("class_pixels", pa.list_(pa.int64()), nullable=False),
        pa.field("cells", pa.binary(), nullable=False),
        pa.field("means", pa.map_(pa.string(), pa.list_(pa.float64())), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("attribution", pa.string(), nullable=False),
        pa.field("phash", pa.uint64()),
        pa.field("height_range", pa.list_(pa.float64(), 2)),
    ]
)


def to_table(rows: Iterable[IndexRow]) -> Any:
    """Return the rows as a ``pyarrow.Table`` with ``SCHEMA``."""
    records = [{**asdict(row), "means": list(row.means.items())} for row in rows]
    return pa.Table.from_pylist(records, schema=SCHEMA)


def from_table(table: Any) -> tuple[IndexRow, ...]:
    """Return the rows of a table of ``to_table``; raises DataError if it has other columns."""
    if not table.schema.equals(SCHEMA):
        raise DataError(
            f"index: got the columns {', '.join(table.schema.names)}; expected {', '.join(SCHEMA.names)}. "
            "Prepare the set again."
        )
    return tuple(_row(record) for record in table.to_pylist())


@cache
def tile_order(down: int, across: int) -> tuple[int, ...]:
    """Return the tile numbers (``row * across + column``) of a texture in Morton order, as in its shard.

    Tiles that are neighbours in the texture are mostly neighbours in the file, so that a crop reads few row
    groups.
    """

    def morton(tile: int) -> int:
        y, x = divmod(tile, across)
        return sum(((x >> bit & 1) << 2 * bit) | ((y >> bit & 1) << 2 * bit + 1) for bit in range(16))

    return tuple(sorted(range(down * across), key=morton))


@cache
def tile_ranks(down: int, across: int) -> tuple[int, ...]:
    """Return the position of each tile number in ``tile_order``."""
    ranks = [0] * (down * across)
    for rank, tile in enumerate(tile_order(down, across)):
        ranks[tile] = rank
    return tuple(ranks)


def _row(record: dict[str, Any]) -> IndexRow:
    record["maps"] = tuple(record["maps"])
    record["class_pixels"] = tuple(record["class_pixels"])
    record["means"] = {name: tuple(values) for name, values in record["means"]}
    if record["height_range"] is not None:
        record["height_range"] = tuple(record["height_range"])
    return IndexRow(**record)

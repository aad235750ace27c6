"""One draw of the plan, in two halves: fetch its tiles compressed, then decode and crop them.

The halves run in different processes: ``fetch`` in the data tasks, ``crops_from_fetched`` in the collate
threads of the training worker, since compressed bytes travel cheaper than pixels. Tiles that the node's cache
holds decoded are not fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.window import Window, assemble, touched_tiles
from pbrlib.errors import DamageError
from pbrlib.maps import Stored

if TYPE_CHECKING:
    from pbrlib.data.shards.dataset import DataSet

TILES_PREFIX = "tiles."
DAMAGE = "damage"
_DAMAGE_TYPE = pa.list_(pa.string())

_WINDOW_COLUMNS = ["sample", "y", "x", "crop", "partners"]


def fetch(table: Any, shards: DataSet, maps: Sequence[str]) -> Any:
    """Adds the touched tiles of each draw, still compressed, to a table of draws; null for a cached one.

    Args:
        table: A ``pyarrow.Table`` with the columns ``sample`` (position in ``shards.rows``), ``y``, ``x``,
            ``crop`` (side of a square window) and ``partners`` (further windows, with a sample, y and x
            each), and any others.
        shards: The set that the draws are from.
        maps: The maps to fetch.

    Returns:
        The table with one more column ``tiles.<map>`` (list of binary) a map: the tiles of a draw's own
        window, then those of its partners; of a material that lacks the map none. Draws of one table that
        share a shard share its read.

    Raises:
        DamageError: A shard is damaged, unless the set is open to skip that: then the draws that need it have
            no tiles, and in a column ``DAMAGE`` the id of a damaged material and what is wrong.
    """
    if shards.on_bad_sample == "fail":
        return _with_tiles(table, shards, maps)
    try:
        return _undamaged(_with_tiles(table, shards, maps))
    except DamageError:
        # Each alone, to find which of them can do without what is damaged.
        return pa.concat_tables(
            _alone(table.slice(number, 1), shards, maps) for number in range(table.num_rows)
        )


def _with_tiles(table: Any, shards: DataSet, maps: Sequence[str]) -> Any:
    draws = [parts_of(draw) for draw in table.select(_WINDOW_COLUMNS).to_pylist()]
    parts = [part for draw in draws for part in draw]
    rows = [shards.rows[part["sample"]] for part in parts]
    wanted = [_tiles_of(part, row) for part, row in zip(parts, rows, strict=True)]
    starts = pa.array(list(accumulate(map(len, draws), initial=0)))
    for name, column in shards.read_columns(rows, wanted, maps).items():
        of_draws = pa.ListArray.from_arrays(column.offsets.take(starts), column.values)
        table = table.append_column(TILES_PREFIX + name, of_draws)
    return table


def _alone(draw: Any, shards: DataSet, maps: Sequence[str]) -> Any:
    """A table of one draw with its tiles, or with what keeps it from having them."""
    try:
        return _undamaged(_with_tiles(draw, shards, maps))
    except DamageError as error:
        material = error.material or shards.rows[draw["sample"][0].as_py()].id
        for name in maps:
            draw = draw.append_column(TILES_PREFIX + name, pa.array([[]], pa.list_(pa.binary())))
        return draw.append_column(DAMAGE, pa.array([[material, str(error)]], _DAMAGE_TYPE))


def _undamaged(table: Any) -> Any:
    return table.append_column(DAMAGE, pa.nulls(table.num_rows, _DAMAGE_TYPE))


def parts_of(draw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The windows of a draw, its own and those of its partners: sample, y, x, crop, and seed if it has one.

    Every part is a window of the whole crop, of which a mosaic shows a half or a quarter: that decodes more
    than is seen, and in return a part is turned, baked and changed like any other sample, at its full size.
    """
    return [{**draw, **part} for part in ({}, *draw["partners"])]


def crops_from_fetched(
    draw: Mapping[str, Any], shards: DataSet, maps: Sequence[str]
) -> list[dict[str, Stored]]:
    """Decodes and crops the parts of one draw of a table made by ``fetch``, its own window first.

    Args:
        draw: A row of the table with all its columns, as ``pyarrow.Table.to_pylist`` gives it.
        shards: The set that the draws are from.
        maps: The maps to decode; those that a material lacks are left out of its crop.

    Returns:
        For each part what ``assemble`` gives, and so are the errors; also of a draw without its tiles.
    """
    if (damage := draw.get(DAMAGE)) is not None:
        material, why = damage
        raise DamageError(why, material=material)
    tiles = {name: iter(draw[TILES_PREFIX + name]) for name in maps}
    crops = []
    for part in parts_of(draw):
        row = shards.rows[part["sample"]]
        count = len(_tiles_of(part, row))
        blobs = {name: list(islice(tiles[name], count)) for name in maps if name in row.maps}
        crops.append(assemble(blobs, _window(part), row=row, decode=shards.decoder(row)))
    return crops


def _window(part: Mapping[str, Any]) -> Window:
    return Window(part["y"], part["x"], part["crop"], part["crop"])


def _tiles_of(part: Mapping[str, Any], row: IndexRow) -> list[int]:
    return touched_tiles(_window(part), height=row.height, width=row.width, tileable=row.tileable)

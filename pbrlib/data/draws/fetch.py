"""Reads the draws of a plan in two steps: fetch their compressed tiles, then decode and crop them.

``fetch`` runs in the data tasks, ``crops_from_fetched`` in the collate threads of the training worker, since
sending compressed bytes is cheaper than sending pixels. Tiles that are in the node's cache are not fetched.
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
    """Add the compressed tiles of each draw to a table of draws; a tile in the cache is null.

    Args:
        table: A ``pyarrow.Table`` with the columns ``sample`` (position in ``shards.rows``), ``y``, ``x``,
            ``crop`` (side of the square window) and ``partners`` (further windows with sample, y and x), and
            any other columns.
        shards: The data set of the draws.
        maps: The maps to fetch.

    Returns:
        The table with a column ``tiles.<map>`` (list of binary) for each map: the tiles of the draw's own
        window, then those of its partners; empty if a material does not have the map. Draws in one shard
        share a read.

    Raises:
        DamageError: A shard is damaged and the data set does not skip bad samples. If it does, the damaged
            draws have no tiles, and their column ``DAMAGE`` has the damaged material and its problem.
    """
    if shards.on_bad_sample == "fail":
        return _with_tiles(table, shards, maps)
    try:
        return _mark_undamaged(_with_tiles(table, shards, maps))
    except DamageError:
        # Fetch each draw separately, to find the draws that are not damaged.
        return pa.concat_tables(
            _fetch_draw(table.slice(number, 1), shards, maps) for number in range(table.num_rows)
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


def _fetch_draw(draw: Any, shards: DataSet, maps: Sequence[str]) -> Any:
    """Return a table of one draw with its tiles, or with its damage."""
    try:
        return _mark_undamaged(_with_tiles(draw, shards, maps))
    except DamageError as error:
        material = error.material or shards.rows[draw["sample"][0].as_py()].id
        for name in maps:
            draw = draw.append_column(TILES_PREFIX + name, pa.array([[]], pa.list_(pa.binary())))
        return draw.append_column(DAMAGE, pa.array([[material, str(error)]], _DAMAGE_TYPE))


def _mark_undamaged(table: Any) -> Any:
    return table.append_column(DAMAGE, pa.nulls(table.num_rows, _DAMAGE_TYPE))


def parts_of(draw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the windows of a draw and its partners: sample, y, x, crop, and seed if the draw has one.

    Every part is a window of the full crop size, of which a mosaic shows a half or a quarter. This decodes
    more pixels than needed, but parts can be augmented like other samples, at their full size.
    """
    return [{**draw, **part} for part in ({}, *draw["partners"])]


def crops_from_fetched(
    draw: Mapping[str, Any], shards: DataSet, maps: Sequence[str]
) -> list[dict[str, Stored]]:
    """Decode and crop the parts of a draw of a table of ``fetch``, starting with its own window.

    Args:
        draw: A row of the table with all of its columns, from ``pyarrow.Table.to_pylist``.
        shards: The data set of the draws.
        maps: The maps to decode; maps that a material does not have are left out of its crop.

    Returns:
        For each part the result of ``assemble``.

    Raises:
        DamageError: A tile is damaged, or the draw was fetched with damage.
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

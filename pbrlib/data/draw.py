"""One draw of the plan, in two halves: fetch its tiles compressed, then decode and crop them.

The halves run in different processes: ``fetch`` in the data tasks, ``crops_from_fetched`` in the collate
threads of the training worker, since compressed bytes travel cheaper than pixels. Tiles that the node's cache
holds decoded are not fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from pbrlib.data.shards.codec import TILE, Blob, Planar, decode_part, decode_tile
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import DamageError
from pbrlib.maps import MAPS, Stored

if TYPE_CHECKING:
    from pbrlib.data.shards.reader import ShardSet

TILES_PREFIX = "tiles."
DAMAGE = "damage"
_DAMAGE_TYPE = pa.list_(pa.string())

DecodeTile: TypeAlias = Callable[[str, int, Blob | None], Planar | None]
"""Name of a map, number of a tile and its blob to its pixels ``(C, h, w)``; None: decode what you need."""

_WINDOW_COLUMNS = ["sample", "y", "x", "crop", "partners"]


@dataclass(frozen=True)
class Window:
    """A part of a texture, in pixels; may lie over the border of one that tiles."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class _Span:
    """A run of pixels along one axis: where it lies in its tile and where it goes in the crop."""

    tile: int
    start: int
    length: int
    target: int


def touched_tiles(window: Window, *, height: int, width: int, tileable: bool) -> list[int]:
    """Numbers (``row * tiles across + column``) of the tiles under a window, ascending, each once.

    Raises ValueError if the window leaves a texture that does not tile: the planner's mistake.
    """
    _check(window, height, width, tileable)
    across = -(-width // TILE)
    rows = {span.tile for span in _spans(window.y, window.height, height)}
    columns = {span.tile for span in _spans(window.x, window.width, width)}
    return sorted(y * across + x for y in rows for x in columns)


def tile_size(tile: int, row: IndexRow) -> tuple[int, int]:
    """Height and width of a tile of a material."""
    y, x = divmod(tile, -(-row.width // TILE))
    return min(TILE, row.height - y * TILE), min(TILE, row.width - x * TILE)


def assemble(
    blobs: Mapping[str, Sequence[Blob | None]],
    window: Window,
    *,
    row: IndexRow,
    decode: DecodeTile | None = None,
) -> dict[str, Stored]:
    """Decodes the touched tiles of a window and puts its crop together.

    Args:
        blobs: For each map the tiles of ``touched_tiles``, in that order; None for a tile that ``decode`` has
            from elsewhere.
        window: The window; over the border of a texture that tiles it wraps around.
        row: The material.
        decode: Has whole tiles, or decodes them; without it no more than the window is decoded.

    Returns:
        For each map its stored crop ``(height, width, C)``, a view of planar memory: turning it to
        ``(C, height, width)`` copies nothing.

    Raises:
        DamageError: A tile is damaged; names the material and the map.
        ValueError: As for ``touched_tiles``.
    """
    tiles = touched_tiles(window, height=row.height, width=row.width, tileable=row.tileable)
    parts = _parts(window, row)
    crops: dict[str, Stored] = {}
    for name, given in blobs.items():
        kind = MAPS[name]
        crop = np.empty((kind.channels, window.height, window.width), kind.dtype)
        try:
            for tile, blob in zip(tiles, given, strict=True):
                whole = None if decode is None else decode(name, tile, blob)
                if whole is not None:
                    _paste(whole, crop, parts=parts[tile])
                else:
                    assert blob is not None
                    _decode(blob, crop, parts=parts[tile], shape=(*tile_size(tile, row), kind.channels))
        except DamageError as error:
            raise DamageError(f"{row.id}: {name}: {error}", material=row.id) from error
        crops[name] = crop.transpose(1, 2, 0)
    return crops


def fetch(table: Any, shards: ShardSet, maps: Sequence[str]) -> Any:
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


def _with_tiles(table: Any, shards: ShardSet, maps: Sequence[str]) -> Any:
    draws = [parts_of(draw) for draw in table.select(_WINDOW_COLUMNS).to_pylist()]
    parts = [part for draw in draws for part in draw]
    rows = [shards.rows[part["sample"]] for part in parts]
    wanted = [_tiles_of(part, row) for part, row in zip(parts, rows, strict=True)]
    starts = pa.array(list(accumulate(map(len, draws), initial=0)))
    for name, column in shards.read_columns(rows, wanted, maps).items():
        of_draws = pa.ListArray.from_arrays(column.offsets.take(starts), column.values)
        table = table.append_column(TILES_PREFIX + name, of_draws)
    return table


def _alone(draw: Any, shards: ShardSet, maps: Sequence[str]) -> Any:
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
    draw: Mapping[str, Any], shards: ShardSet, maps: Sequence[str]
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


def _check(window: Window, height: int, width: int, tileable: bool) -> None:
    if window.height < 1 or window.width < 1:
        raise ValueError(f"{window} is empty")
    inside = 0 <= window.y <= height - window.height and 0 <= window.x <= width - window.width
    if not (inside or tileable):
        raise ValueError(f"{window} leaves a texture of {height} x {width} that does not tile")


def _spans(start: int, length: int, size: int) -> Iterator[_Span]:
    done = 0
    while done < length:
        place = (start + done) % size
        number, offset = divmod(place, TILE)
        run = min(TILE - offset, size - place, length - done)
        yield _Span(number, offset, run, done)
        done += run


def _parts(window: Window, row: IndexRow) -> dict[int, list[tuple[_Span, _Span]]]:
    across = -(-row.width // TILE)
    columns = list(_spans(window.x, window.width, row.width))
    parts: dict[int, list[tuple[_Span, _Span]]] = {}
    for y in _spans(window.y, window.height, row.height):
        for x in columns:
            parts.setdefault(y.tile * across + x.tile, []).append((y, x))
    return parts


def _decode(
    blob: Blob, crop: Planar, *, parts: Sequence[tuple[_Span, _Span]], shape: tuple[int, int, int]
) -> None:
    if len(parts) > 1:
        _paste(decode_tile(blob, shape=shape, dtype=str(crop.dtype)), crop, parts=parts)
        return
    ((y, x),) = parts
    target = crop[:, y.target : y.target + y.length, x.target : x.target + x.length]
    rows, columns = (y.start, y.start + y.length), (x.start, x.start + x.length)
    decode_part(blob, target, shape=shape, rows=rows, columns=columns)


def _paste(tile: Planar, crop: Planar, *, parts: Sequence[tuple[_Span, _Span]]) -> None:
    for y, x in parts:
        source = tile[:, y.start : y.start + y.length, x.start : x.start + x.length]
        crop[:, y.target : y.target + y.length, x.target : x.target + x.length] = source

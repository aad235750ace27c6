"""One draw of the plan, in two halves: fetch its tiles compressed, then decode and crop them.

The halves run on different machines: ``fetch`` in the data tasks, ``crop_from_fetched`` in the collate
threads of the training worker, since compressed bytes travel cheaper than pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pbrlib.data.shards.codec import TILE, Blob, Planar, decode_part, decode_tile
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import DataError
from pbrlib.maps import MAPS, Stored

if TYPE_CHECKING:
    from pbrlib.data.shards.reader import ShardSet

TILES_PREFIX = "tiles."


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


def touched_tiles(window: Window, *, height: int, width: int, tile: int = TILE, tileable: bool) -> list[int]:
    """Numbers (``row * tiles across + column``) of the tiles under a window, ascending, each once.

    Raises ValueError if the window leaves a texture that does not tile: the planner's mistake.
    """
    _check(window, height, width, tileable)
    across = -(-width // tile)
    rows = {span.tile for span in _spans(window.y, window.height, height, tile)}
    columns = {span.tile for span in _spans(window.x, window.width, width, tile)}
    return sorted(y * across + x for y in rows for x in columns)


def assemble(blobs: Mapping[str, Sequence[Blob]], window: Window, *, row: IndexRow) -> dict[str, Stored]:
    """Decodes the touched tiles of a window and puts its crop together.

    Args:
        blobs: For each map the tiles of ``touched_tiles``, in that order.
        window: The window; over the border of a texture that tiles it wraps around.
        row: The material.

    Returns:
        For each map its stored crop ``(height, width, C)``, a view of planar memory: turning it to
        ``(C, height, width)`` copies nothing.

    Raises:
        DataError: A tile is damaged; names the material and the map.
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
                _paste(blob, crop, parts=parts[tile], shape=(*_tile_size(tile, row), kind.channels))
        except DataError as error:
            raise DataError(f"{row.id}: {name}: {error}") from error
        crops[name] = crop.transpose(1, 2, 0)
    return crops


def fetch(table: Any, shards: ShardSet, maps: Sequence[str]) -> Any:
    """Adds the touched tiles of each draw, still compressed, to a table of draws.

    Args:
        table: A ``pyarrow.Table`` with the columns ``sample`` (position in ``shards.rows``), ``y``, ``x``
            and ``crop`` (side of a square window), and any others.
        shards: The set that the draws are from.
        maps: The maps to fetch.

    Returns:
        The table with one more column ``tiles.<map>`` (list of binary) a map, empty where the material
        lacks the map. Draws of one table that share a shard share its read.

    Raises:
        DataError: A shard is damaged.
    """
    rows = [shards.rows[sample] for sample in table["sample"].to_pylist()]
    corners = zip(*(table[name].to_pylist() for name in ("y", "x", "crop")), strict=True)
    wanted = [
        touched_tiles(Window(y, x, crop, crop), height=row.height, width=row.width, tileable=row.tileable)
        for row, (y, x, crop) in zip(rows, corners, strict=True)
    ]
    for name, column in shards.read_columns(rows, wanted, maps).items():
        table = table.append_column(TILES_PREFIX + name, column)
    return table


def crop_from_fetched(draw: Mapping[str, Any], row: IndexRow, maps: Sequence[str]) -> dict[str, Stored]:
    """Decodes and crops one draw of a table made by ``fetch``; maps that the material lacks are left out.

    Args:
        draw: ``y``, ``x``, ``crop`` and for each map ``tiles.<map>``, as ``pyarrow.Table.to_pylist`` gives.
        row: The material of the draw.
        maps: The maps to decode.

    Returns:
        As for ``assemble``, and so are the errors.
    """
    window = Window(draw["y"], draw["x"], draw["crop"], draw["crop"])
    blobs = {name: draw[TILES_PREFIX + name] for name in maps if name in row.maps}
    return assemble(blobs, window, row=row)


def _check(window: Window, height: int, width: int, tileable: bool) -> None:
    if window.height < 1 or window.width < 1:
        raise ValueError(f"{window} is empty")
    inside = 0 <= window.y <= height - window.height and 0 <= window.x <= width - window.width
    if not (inside or tileable):
        raise ValueError(f"{window} leaves a texture of {height} x {width} that does not tile")


def _spans(start: int, length: int, size: int, tile: int) -> Iterator[_Span]:
    done = 0
    while done < length:
        place = (start + done) % size
        number, offset = divmod(place, tile)
        run = min(tile - offset, size - place, length - done)
        yield _Span(number, offset, run, done)
        done += run


def _parts(window: Window, row: IndexRow) -> dict[int, list[tuple[_Span, _Span]]]:
    across = -(-row.width // TILE)
    columns = list(_spans(window.x, window.width, row.width, TILE))
    parts: dict[int, list[tuple[_Span, _Span]]] = {}
    for y in _spans(window.y, window.height, row.height, TILE):
        for x in columns:
            parts.setdefault(y.tile * across + x.tile, []).append((y, x))
    return parts


def _tile_size(tile: int, row: IndexRow) -> tuple[int, int]:
    y, x = divmod(tile, -(-row.width // TILE))
    return min(TILE, row.height - y * TILE), min(TILE, row.width - x * TILE)


def _paste(
    blob: Blob, crop: Planar, *, parts: Sequence[tuple[_Span, _Span]], shape: tuple[int, int, int]
) -> None:
    if len(parts) == 1:
        ((y, x),) = parts
        target = crop[:, y.target : y.target + y.length, x.target : x.target + x.length]
        rows, columns = (y.start, y.start + y.length), (x.start, x.start + x.length)
        decode_part(blob, target, shape=shape, rows=rows, columns=columns)
        return
    decoded = decode_tile(blob, shape=shape, dtype=str(crop.dtype))
    for y, x in parts:
        source = decoded[:, y.start : y.start + y.length, x.start : x.start + x.length]
        crop[:, y.target : y.target + y.length, x.target : x.target + x.length] = source

"""Finds the tiles of a window of a texture, and assembles its crop from decoded tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pbrlib.data.shards.codec import TILE, Blob, Planar, decode_part, decode_tile
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import DamageError
from pbrlib.maps import MAPS, Stored

DecodeTile: TypeAlias = Callable[[str, int, Blob | None], Planar | None]
"""Returns the pixels ``(C, h, w)`` of a tile from the name of a map, the number of the tile and its blob.

It returns None if the caller has to decode the needed part of the blob itself.
"""


@dataclass(frozen=True)
class Window:
    """A part of a texture, in pixels; in a tileable texture it may cross the border."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class _Span:
    """A range of pixels along one axis: its start in the tile, and its start (``target``) in the crop."""

    tile: int
    start: int
    length: int
    target: int


def touched_tiles(window: Window, *, height: int, width: int, tileable: bool) -> list[int]:
    """Return the sorted numbers (``row * tiles across + column``) of the tiles under a window.

    Raises ValueError if the window crosses the border of a texture that is not tileable, an error of the
    plan.
    """
    _check(window, height, width, tileable)
    across = -(-width // TILE)
    rows = {span.tile for span in _spans(window.y, window.height, height)}
    columns = {span.tile for span in _spans(window.x, window.width, width)}
    return sorted(y * across + x for y in rows for x in columns)


def tile_size(tile: int, row: IndexRow) -> tuple[int, int]:
    """Return the height and width of a tile of a material."""
    y, x = divmod(tile, -(-row.width // TILE))
    return min(TILE, row.height - y * TILE), min(TILE, row.width - x * TILE)


def assemble(
    blobs: Mapping[str, Sequence[Blob | None]],
    window: Window,
    *,
    row: IndexRow,
    decode: DecodeTile | None = None,
) -> dict[str, Stored]:
    """Decode the tiles of a window, and assemble its crop.

    Args:
        blobs: For each map the blobs of the tiles of ``touched_tiles``, in that order; None for a tile that
            ``decode`` has cached.
        window: The window; it wraps around the border of a tileable texture.
        row: The material.
        decode: Returns decoded tiles, for example from a cache; None decodes only the part in the window.

    Returns:
        For each map its stored crop ``(height, width, C)``, a view of planar memory, so that a transposition
        to ``(C, height, width)`` copies nothing.

    Raises:
        DamageError: A tile is damaged.
        ValueError: The window is invalid, as for ``touched_tiles``.
    """
    tiles = touched_tiles(window, height=row.height, width=row.width, tileable=row.tileable)
    parts = _parts(window, row)
    crops: dict[str, Stored] = {}
    for name, given in blobs.items():
        kind = MAPS[name]
        crop = np.empty((kind.channels, window.height, window.width), kind.dtype)
        try:
            for tile, blob in zip(tiles, given, strict=True):
                pixels = None if decode is None else decode(name, tile, blob)
                if pixels is not None:
                    _paste(pixels, crop, parts=parts[tile])
                else:
                    assert blob is not None
                    _decode(blob, crop, parts=parts[tile], shape=(*tile_size(tile, row), kind.channels))
        except DamageError as error:
            raise DamageError(f"{row.id}: {name}: {error}", material=row.id) from error
        crops[name] = crop.transpose(1, 2, 0)
    return crops


def _check(window: Window, height: int, width: int, tileable: bool) -> None:
    if window.height < 1 or window.width < 1:
        raise ValueError(f"got an empty window: {window}")
    inside = 0 <= window.y <= height - window.height and 0 <= window.x <= width - window.width
    if not (inside or tileable):
        raise ValueError(
            f"{window} crosses the border of a texture of {height} x {width}, which is not tileable"
        )


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

"""Reads tiles, crops and maps from the shards of published sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pbrlib.data.shards.codec import TILE, Blob, Planar, decode_tile
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.files import READ_ERRORS, ShardFile, ShardFileCache
from pbrlib.data.shards.index import IndexRow, tile_ranks
from pbrlib.data.shards.readspec import OnBadSample
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.data.shards.tilefile import TileKey
from pbrlib.data.shards.window import DecodeTile, Window, assemble, tile_size, touched_tiles
from pbrlib.errors import PERMANENT_ERRNOS, DamageError, DataError, outage_or
from pbrlib.maps import MAPS, Stored

REMEDY = "Copy the file again from where the set came from, or prepare the set again."

_NONE = pa.nulls(1, pa.binary())


class DataSet:
    """The materials of one or several published sets, open for reading.

    A data set is thread-safe, and is pickled without its open files. With a ``cache``, decoded tiles are read
    from it, and written to it if missing. With ``on_bad_sample`` "skip", a damaged draw of a batch is
    replaced by another one, see `pbrlib.data.draws.collate`; ``read_crop`` and ``read_whole`` raise errors in
    any case.

    Args:
        data: The locations of the sets.
        fingerprint: A hash of the content, which does not depend on the locations.
        shards: The shard files of all sets; ``IndexRow.shard`` is a position in them.
        rows: The materials.
        cache: A cache for decoded tiles.
        on_bad_sample: Whether a damaged draw is an error or is replaced.
    """

    def __init__(
        self,
        data: DataSpec,
        *,
        fingerprint: str,
        shards: tuple[ShardFile, ...],
        rows: tuple[IndexRow, ...],
        cache: TileCache | None = None,
        on_bad_sample: OnBadSample = "fail",
    ) -> None:
        self.data = data
        self.fingerprint = fingerprint
        self.shards = shards
        self.rows = rows
        self.cache = cache
        self.on_bad_sample = on_bad_sample
        self._files = ShardFileCache()

    def __reduce__(self) -> tuple[Callable[..., DataSet], tuple[Any, ...]]:
        return _restore, (
            self.data,
            self.fingerprint,
            self.shards,
            self.rows,
            self.cache,
            self.on_bad_sample,
        )

    @property
    def location(self) -> str:
        """The locations of the sets in one line."""
        return str(self.data)

    def read_crop(self, row: IndexRow, window: Window, maps: Sequence[str]) -> dict[str, Stored]:
        """Read a window of some maps, as returned by ``pbrlib.data.shards.window.assemble``.

        Raises:
            DataError: The shard is damaged, or the material does not have a map.
        """
        tiles = touched_tiles(window, height=row.height, width=row.width, tileable=row.tileable)
        blobs = self._buffers(row, tiles, maps)
        try:
            return assemble(blobs, window, row=row, decode=self.decoder(row))
        except DamageError as error:
            raise DamageError(f"{self._place(row)}: {error}. {REMEDY}", material=row.id) from error

    def read_whole(self, row: IndexRow, maps: Sequence[str]) -> dict[str, Stored]:
        """Read whole maps of a material; raises the errors of ``read_crop``."""
        return self.read_crop(row, Window(0, 0, row.height, row.width), maps)

    def read_columns(
        self, rows: Sequence[IndexRow], tiles: Sequence[Sequence[int]], maps: Sequence[str]
    ) -> dict[str, Any]:
        """Read the tiles of many draws as Arrow columns; draws in one shard share a read.

        Args:
            rows: The material of each draw.
            tiles: The tiles of each draw.
            maps: The maps.

        Returns:
            For each map a ``pyarrow.ListArray`` of binary with one list per draw, which is empty if the
            material does not have the map. A tile that is in the cache is null. The compressed tiles of a map
            must be smaller than 2 GiB in total.

        Raises:
            DataError: A shard is damaged.
        """
        assert rows, "no draws"
        draws = list(zip(rows, tiles, strict=True))
        blobs = self._read_missing(draws, maps)
        columns = {}
        for name in maps:
            lists = [
                [blobs.get((name, row.shard, place)) for place in _shard_rows(row, numbers)]
                if name in row.maps
                else []
                for row, numbers in draws
            ]
            offsets = np.cumsum([0, *(len(blobs_of_draw) for blobs_of_draw in lists)], dtype=np.int32)
            values = [_NONE if blob is None else blob for blobs_of_draw in lists for blob in blobs_of_draw]
            columns[name] = pa.ListArray.from_arrays(
                pa.array(offsets), pa.concat_arrays(values) if values else _NONE.slice(1)
            )
        return columns

    def decoder(self, row: IndexRow) -> DecodeTile | None:
        """Return a function that decodes the tiles of a material with the cache, or None without a cache.

        A tile without a blob that was removed from the cache in the meantime is read from its shard.
        """
        cache = self.cache
        if cache is None:
            return None

        def decode(name: str, tile: int, blob: Blob | None) -> Planar | None:
            (place,) = _shard_rows(row, [tile])
            key = self._key(row, name, place)
            kind = MAPS[name]
            shape = (*tile_size(tile, row), kind.channels)
            pixels = cache.read(key, shape=shape, dtype=kind.dtype)
            if pixels is not None or (blob is not None and not cache.is_storing):
                return pixels
            if blob is None:
                table, found = self._read([(row, [tile])], {place}, [name])
                blob = memoryview(table[name][found[place]].as_buffer())
            given = blob
            return cache.decode_once(
                key,
                lambda: decode_tile(given, shape=shape, dtype=kind.dtype),
                shape=shape,
                dtype=kind.dtype,
            )

        return decode

    def _buffers(
        self, row: IndexRow, tiles: Sequence[int], maps: Sequence[str]
    ) -> dict[str, list[Blob | None]]:
        for name in maps:
            if name not in row.maps:
                raise DataError(
                    f"{self._place(row)}: no map {name}, only {', '.join(row.maps)}. Use one of them."
                )
        found = self._read_missing([(row, tiles)], maps)
        places = [(row.shard, place) for place in _shard_rows(row, tiles)]
        blobs: dict[str, list[Blob | None]] = {}
        for name in maps:
            given = [found.get((name, *place)) for place in places]
            blobs[name] = [None if array is None else memoryview(array[0].as_buffer()) for array in given]
        return blobs

    def _read_missing(
        self, draws: Sequence[tuple[IndexRow, Sequence[int]]], maps: Sequence[str]
    ) -> dict[tuple[str, int, int], Any]:
        """Read the blobs that are not in the cache: Arrow arrays of one element, by map, shard and row."""
        missing: dict[int, dict[str, set[int]]] = {}
        for row, tiles in draws:
            for name in [name for name in maps if name in row.maps]:
                for place in _shard_rows(row, tiles):
                    if self.cache is None or not self.cache.holds(self._key(row, name, place)):
                        missing.setdefault(row.shard, {}).setdefault(name, set()).add(place)
        blobs = {}
        for shard, places in sorted(missing.items()):
            of_shard = [draw for draw in draws if draw[0].shard == shard]
            table, found = self._read(of_shard, set().union(*places.values()), list(places))
            for name, needed in places.items():
                for place in needed:
                    blob = table[name].slice(found[place], 1).chunk(0)
                    if blob.null_count:
                        raise DataError(
                            f"{self._shard(shard)}: {name}: got no tile in row {place}; expected one. "
                            f"{REMEDY}"
                        )
                    blobs[name, shard, place] = blob
        return blobs

    def _key(self, row: IndexRow, name: str, place: int) -> TileKey:
        return TileKey(self.shards[row.shard].info.sha256, name, place)

    def _read(
        self, draws: Sequence[tuple[IndexRow, Sequence[int]]], needed: set[int], maps: Sequence[str]
    ) -> tuple[Any, dict[int, int]]:
        """Read the row groups of the needed rows of one shard; return them and the position of each row."""
        shard = draws[0][0].shard
        try:
            return self._files.read(self.shards[shard], needed, maps)
        except READ_ERRORS as error:
            if isinstance(error, OSError) and error.errno not in PERMANENT_ERRNOS:
                raise outage_or(DataError, error)(
                    f"{self._shard(shard)}: cannot be read now ({error}). Check its disk and permissions, "
                    "and run the same command again to resume."
                ) from error
            place, material = self._find_damage(draws, maps)
            raise DamageError(f"{place}: damaged ({error}). {REMEDY}", material=material) from error

    def _find_damage(
        self, draws: Sequence[tuple[IndexRow, Sequence[int]]], maps: Sequence[str]
    ) -> tuple[str, str]:
        """Return the place and material of the first map that cannot be read, or the shard if none can."""
        broken = []
        for row, tiles in draws:
            file, needed = self.shards[row.shard], set(_shard_rows(row, tiles))
            for name in maps:
                try:
                    self._files.read(file, needed, [name])
                except READ_ERRORS:
                    broken.append((f"{self._place(row)}: {name}", row.id))
        all_broken = len(broken) == len(draws) * len(maps) > 1
        first = draws[0][0]
        return (str(self._shard(first.shard)), first.id) if all_broken or not broken else broken[0]

    def _shard(self, shard: int) -> Path:
        return self.shards[shard].place

    def _place(self, row: IndexRow) -> str:
        return f"{self._shard(row.shard)}: {row.id}"


def _restore(
    data: DataSpec,
    fingerprint: str,
    shards: tuple[ShardFile, ...],
    rows: tuple[IndexRow, ...],
    cache: TileCache | None,
    on_bad_sample: OnBadSample,
) -> DataSet:
    return DataSet(
        data,
        fingerprint=fingerprint,
        shards=shards,
        rows=rows,
        cache=cache,
        on_bad_sample=on_bad_sample,
    )


def _shard_rows(row: IndexRow, tiles: Sequence[int]) -> list[int]:
    ranks = tile_ranks(-(-row.height // TILE), -(-row.width // TILE))
    return [row.first_row + ranks[tile] for tile in tiles]

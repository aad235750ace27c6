"""Tiles, crops and whole maps out of a published shard set."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pbrlib.data import storage
from pbrlib.data.draw import Window, assemble, touched_tiles
from pbrlib.data.shards.codec import TILE, Blob
from pbrlib.data.shards.index import IndexRow, tile_ranks
from pbrlib.data.shards.manifest import SHARD_FOLDER, Manifest, load_manifest, read_index
from pbrlib.data.storage import Location
from pbrlib.errors import DataError
from pbrlib.maps import Stored

_NUM_OPEN_FILES = 64
_DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)  # the last: of a name of a column
_REMEDY = "Copy the file again from where the set came from, or prepare the set again."


class ShardSet:
    """A version of a shard set, open for reading. Threads may share it; it pickles without open files."""

    def __init__(self, location: str, *, manifest: Manifest, rows: tuple[IndexRow, ...]) -> None:
        self.location = location
        self.manifest = manifest
        self.rows = rows
        self._files = _OpenFiles(location)

    @classmethod
    def open(cls, location: Location) -> ShardSet:
        """Opens the set in a folder or below an S3 address.

        Raises:
            DataError: It has no manifest, its index is another file than the manifest names, or a shard
                is missing or of another size.
        """
        manifest = load_manifest(location)
        _check_sizes(location, manifest)
        return cls(str(location), manifest=manifest, rows=read_index(location, manifest=manifest))

    def __reduce__(self) -> tuple[Callable[..., ShardSet], tuple[Any, ...]]:
        return _restore, (self.location, self.manifest, self.rows)

    @property
    def fingerprint(self) -> str:
        """Of the manifest: equal for equal content."""
        return self.manifest.fingerprint

    def read_crop(self, row: IndexRow, window: Window, maps: Sequence[str]) -> dict[str, Stored]:
        """A window of some maps, as ``pbrlib.data.draw.assemble`` gives it.

        Raises:
            DataError: The shard is damaged or the material lacks a map; names file, material and map.
        """
        tiles = touched_tiles(window, height=row.height, width=row.width, tileable=row.tileable)
        blobs = self._buffers(row, tiles, maps)
        try:
            return assemble(blobs, window, row=row)
        except DataError as error:
            raise DataError(f"{self._place(row)}: {error}. {_REMEDY}") from error

    def read_whole(self, row: IndexRow, maps: Sequence[str]) -> dict[str, Stored]:
        """Whole maps of a material; errors as for a crop."""
        return self.read_crop(row, Window(0, 0, row.height, row.width), maps)

    def read_columns(
        self, rows: Sequence[IndexRow], tiles: Sequence[Sequence[int]], maps: Sequence[str]
    ) -> dict[str, Any]:
        """Tiles of many draws at once, as Arrow columns; draws in one shard share its read.

        Args:
            rows: The material of each draw.
            tiles: The tiles of each draw.
            maps: The maps.

        Returns:
            For each map a ``pyarrow.ListArray`` of binary with one list a draw, empty where the material
            lacks the map. The compressed tiles of one map must stay below 2 GiB.

        Raises:
            DataError: A shard is damaged.
        """
        assert rows, "no draws"
        draws = list(zip(rows, tiles, strict=True))
        wanted: dict[int, set[int]] = {}
        for row, numbers in draws:
            wanted.setdefault(row.shard, set()).update(_shard_rows(row, numbers))
        places: dict[tuple[int, int], int] = {}
        pieces, start = [], 0
        for shard, needed in sorted(wanted.items()):
            piece, found = self._read([draw for draw in draws if draw[0].shard == shard], needed, maps)
            places |= {(shard, row): start + position for row, position in found.items()}
            start += piece.num_rows
            pieces.append(piece)
        together = pa.concat_tables(pieces)
        columns = {}
        for name in maps:
            lists = [
                [places[row.shard, place] for place in _shard_rows(row, numbers)] if name in row.maps else []
                for row, numbers in draws
            ]
            offsets = np.cumsum([0, *(len(one) for one in lists)], dtype=np.int32)
            values = _gather(together[name], [place for one in lists for place in one])
            columns[name] = pa.ListArray.from_arrays(pa.array(offsets), values)
        return columns

    def verify(self) -> None:
        """Reads every shard whole and compares its SHA-256; raises DataError naming all that differ."""
        wrong = [
            info.file
            for info in self.manifest.shards
            if storage.sha256(storage.join(self.location, info.file)) != info.sha256
        ]
        if wrong:
            raise DataError(f"{self.location}: damaged (SHA-256): {', '.join(wrong)}. {_REMEDY}")

    def _buffers(self, row: IndexRow, tiles: Sequence[int], maps: Sequence[str]) -> dict[str, list[Blob]]:
        for name in maps:
            if name not in row.maps:
                raise DataError(f"{self._place(row)}: no map {name}. It has {', '.join(row.maps)}.")
        places = _shard_rows(row, tiles)
        table, found = self._read([(row, tiles)], set(places), maps)
        positions = [found[place] for place in places]
        blobs: dict[str, list[Blob]] = {}
        for name in maps:
            column = table[name]
            blobs[name] = [memoryview(column[position].as_buffer()) for position in positions]
        return blobs

    def _read(
        self, draws: Sequence[tuple[IndexRow, Sequence[int]]], needed: set[int], maps: Sequence[str]
    ) -> tuple[Any, dict[int, int]]:
        """The row groups that hold the needed rows of one shard, and where each row is in them."""
        shard = draws[0][0].shard
        try:
            return self._files.read(self.manifest.shards[shard].file, needed, maps)
        except _DAMAGE as error:
            raise DataError(f"{self._culprit(draws, maps)}: damaged ({error}). {_REMEDY}") from error

    def _culprit(self, draws: Sequence[tuple[IndexRow, Sequence[int]]], maps: Sequence[str]) -> str:
        """The place of the first map that cannot be read, or the shard alone if none can."""
        broken = []
        for row, tiles in draws:
            file, needed = self.manifest.shards[row.shard].file, set(_shard_rows(row, tiles))
            for name in maps:
                try:
                    self._files.read(file, needed, [name])
                except _DAMAGE:
                    broken.append(f"{self._place(row)}: {name}")
        whole = len(broken) == len(draws) * len(maps) > 1
        return self._shard(draws[0][0].shard) if whole or not broken else broken[0]

    def _shard(self, shard: int) -> str:
        return storage.join(self.location, self.manifest.shards[shard].file)

    def _place(self, row: IndexRow) -> str:
        return f"{self._shard(row.shard)}: {row.id}"


@dataclass(frozen=True)
class _OpenFile:
    source: Any
    metadata: Any
    rows_per_group: int


class _OpenFiles:
    """The shard files used last, with their parsed footers; safe to use from many threads.

    Every read makes its own Parquet reader over them, since those may not be shared.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._remote = storage.is_remote(root)
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str, needed: set[int], maps: Sequence[str]) -> tuple[Any, dict[int, int]]:
        file = self._open(name)
        groups = sorted({row // file.rows_per_group for row in needed})
        reader = pq.ParquetFile(
            file.source,
            metadata=file.metadata,
            pre_buffer=self._remote,  # merges neighbouring ranges into one request
            page_checksum_verification=True,
        )
        table = reader.read_row_groups(groups, columns=list(maps), use_threads=False)
        if set(table.column_names) != set(maps):
            raise pa.ArrowInvalid(f"its columns are {', '.join(reader.schema_arrow.names)}")
        size = file.rows_per_group
        rows = [group * size + place for group in groups for place in range(size)]
        return table, {row: position for position, row in enumerate(rows)}

    def _open(self, name: str) -> _OpenFile:
        with self._lock:
            if name in self._files:
                self._files.move_to_end(name)
                return self._files[name]
        source = storage.open_input(storage.join(self._root, name))
        metadata = pq.read_metadata(source)
        file = _OpenFile(source, metadata, metadata.row_group(0).num_rows)
        with self._lock:
            self._files[name] = file
            while len(self._files) > _NUM_OPEN_FILES:
                self._files.popitem(last=False)
        return file


def _restore(location: str, manifest: Manifest, rows: tuple[IndexRow, ...]) -> ShardSet:
    return ShardSet(location, manifest=manifest, rows=rows)


def _gather(column: Any, places: Sequence[int]) -> Any:
    """Values of a chunked column as one array, copied once (``take`` first joins all chunks)."""
    single = [column.slice(place, 1).chunk(0) for place in places]
    return pa.concat_arrays(single) if single else pa.array([], column.type)


def _shard_rows(row: IndexRow, tiles: Sequence[int]) -> list[int]:
    ranks = tile_ranks(-(-row.height // TILE), -(-row.width // TILE))
    return [row.first_row + ranks[tile] for tile in tiles]


def _check_sizes(location: Location, manifest: Manifest) -> None:
    sizes = storage.list_files(storage.join(location, SHARD_FOLDER))
    for info in manifest.shards:
        place, found = (
            storage.join(location, info.file),
            sizes.get(info.file.removeprefix(f"{SHARD_FOLDER}/")),
        )
        if found is None:
            raise DataError(f"{place}: missing. {_REMEDY}")
        if found != info.bytes:
            raise DataError(f"{place}: {found} bytes instead of {info.bytes}. {_REMEDY}")

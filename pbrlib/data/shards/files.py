"""Keeps the most recently used shard files open, and reads row groups from them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pbrlib import storage
from pbrlib.data.shards.manifest import Manifest, ShardInfo

READ_ERRORS = (OSError, pa.ArrowException, UnicodeDecodeError)  # the last if a column name is damaged

_NUM_OPEN_FILES = 64


@dataclass(frozen=True)
class ShardFile:
    """The path and the manifest entry of a shard."""

    place: Path
    info: ShardInfo


def shard_files(location: str | Path, manifest: Manifest) -> tuple[ShardFile, ...]:
    """Return the shards of a published set, in the order of its manifest."""
    root = storage.to_path(location)
    return tuple(ShardFile(root / info.file, info) for info in manifest.shards)


@dataclass(frozen=True)
class _OpenShard:
    source: Any
    metadata: Any
    rows_per_group: int


class ShardFileCache:
    """A thread-safe LRU cache of open shard files and their parsed footers.

    Every read creates its own ``ParquetFile``, since a ``ParquetFile`` is not thread-safe.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[Path, _OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, shard: ShardFile, needed: set[int], maps: Sequence[str]) -> tuple[Any, dict[int, int]]:
        """Read the row groups of the needed rows; return the table and the position of each shard row in it.

        Raises one of ``READ_ERRORS``; an OSError of the file system has an ``errno``, one of Arrow has none.
        """
        file = self._open(shard)
        groups = sorted({row // file.rows_per_group for row in needed})
        reader = pq.ParquetFile(
            file.source,
            metadata=file.metadata,
            # Merges neighbouring ranges into one request; a memory map has no requests to save.
            pre_buffer=not isinstance(file.source, pa.MemoryMappedFile),
            page_checksum_verification=True,
        )
        if max(needed) >= file.metadata.num_rows:
            raise pa.ArrowInvalid(f"got {file.metadata.num_rows} rows; expected more than {max(needed)}")
        table = reader.read_row_groups(groups, columns=list(maps), use_threads=False)
        if set(table.column_names) != set(maps):
            raise pa.ArrowInvalid(
                f"got columns {', '.join(reader.schema_arrow.names)}; expected {', '.join(maps)}"
            )
        expected = sum(file.metadata.row_group(group).num_rows for group in groups)
        if table.num_rows != expected:
            raise pa.ArrowInvalid(f"got {table.num_rows} rows in row groups {groups}; expected {expected}")
        size = file.rows_per_group
        rows = [group * size + offset for group in groups for offset in range(size)]
        return table, {row: position for position, row in enumerate(rows)}

    def _open(self, shard: ShardFile) -> _OpenShard:
        with self._lock:
            if shard.place in self._files:
                self._files.move_to_end(shard.place)
                return self._files[shard.place]
        source = storage.open_arrow(shard.place)
        metadata = pq.read_metadata(source)
        file = _OpenShard(source, metadata, _rows_per_group(metadata, rows=shard.info.rows))
        with self._lock:
            self._files[shard.place] = file
            while len(self._files) > _NUM_OPEN_FILES:
                self._files.popitem(last=False)
        return file


def _rows_per_group(metadata: Any, *, rows: int) -> int:
    """Return the number of rows of each group except the last one.

    The footer is checked, since wrong numbers of rows would return the tiles of another material.
    """
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if sum(sizes) != rows or {*sizes[:-1]} - {sizes[0]} or not 0 < sizes[-1] <= sizes[0]:
        raise pa.ArrowInvalid(f"got row groups of {sizes} rows; expected {rows} rows in groups of one size")
    return int(sizes[0])

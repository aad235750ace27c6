"""The shard files that were used last, open, and row groups read out of them."""

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

DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)  # the last: of a name of a column

_NUM_OPEN_FILES = 64


@dataclass(frozen=True)
class ShardFile:
    """A shard and where it lies."""

    place: Path
    info: ShardInfo


def shard_files(location: str | Path, manifest: Manifest) -> tuple[ShardFile, ...]:
    """Return the shards of a published set, in the order of its manifest."""
    root = storage.to_path(location)
    return tuple(ShardFile(root / info.file, info) for info in manifest.shards)


@dataclass(frozen=True)
class _OpenFile:
    source: Any
    metadata: Any
    rows_per_group: int


class OpenFiles:
    """The shard files used last, with their parsed footers; safe to use from many threads.

    Every read makes its own Parquet reader over them, since those may not be shared.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, shard: ShardFile, needed: set[int], maps: Sequence[str]) -> tuple[Any, dict[int, int]]:
        """The row groups that hold the needed rows of a shard, and where each row is in them.

        Raises one of ``DAMAGE``; what the file system says it says with a number.
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
            raise pa.ArrowInvalid(f"it has {file.metadata.num_rows} rows, and no row {max(needed)}")
        table = reader.read_row_groups(groups, columns=list(maps), use_threads=False)
        if set(table.column_names) != set(maps):
            raise pa.ArrowInvalid(f"its columns are {', '.join(reader.schema_arrow.names)}")
        if table.num_rows != sum(file.metadata.row_group(group).num_rows for group in groups):
            raise pa.ArrowInvalid(f"{table.num_rows} rows came out of row groups {groups}")
        size = file.rows_per_group
        rows = [group * size + place for group in groups for place in range(size)]
        return table, {row: position for position, row in enumerate(rows)}

    def _open(self, shard: ShardFile) -> _OpenFile:
        with self._lock:
            if shard.place in self._files:
                self._files.move_to_end(shard.place)
                return self._files[shard.place]
        source = storage.open_arrow(shard.place)
        metadata = pq.read_metadata(source)
        file = _OpenFile(source, metadata, _rows_per_group(metadata, rows=shard.info.rows))
        with self._lock:
            self._files[shard.place] = file
            while len(self._files) > _NUM_OPEN_FILES:
                self._files.popitem(last=False)
        return file


def _rows_per_group(metadata: Any, *, rows: int) -> int:
    """Rows of each group but the last; a footer of other numbers would lead to the tiles of others."""
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if sum(sizes) != rows or {*sizes[:-1]} - {sizes[0]} or not 0 < sizes[-1] <= sizes[0]:
        raise pa.ArrowInvalid(f"its row groups do not hold {rows} rows as they were written")
    return int(sizes[0])

"""Damages files as a failing disk does."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.reader import ShardSet


def flip(path: Path, position: int | None = None) -> None:
    """Flip a bit of a byte, by default of the byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 0x10
    path.write_bytes(data)


def flip_tile(root: Path, row: IndexRow, name: str) -> None:
    """Flip a bit of the first tile of a material; this damages all materials of the page."""
    path = root / ShardSet.open(root).manifest.shards[row.shard].file
    file = pq.ParquetFile(path)
    size = file.metadata.row_group(0).num_rows
    chunk = file.metadata.row_group(row.first_row // size).column(file.schema_arrow.names.index(name))
    share = chunk.total_compressed_size // size
    flip(path, chunk.data_page_offset + share * (row.first_row % size) + share // 2)

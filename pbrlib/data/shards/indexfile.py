"""Reads and checks an untrusted index file, with bounded memory."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from pbrlib.data.shards.codec import TILE
from pbrlib.data.shards.index import SCHEMA, IndexRow, Split, from_table
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES, MAPS

MAX_SIDE = 256 * TILE
"""Maximum side of a material in pixels, which is the limit of `tile_order`."""

_UNPACKED, _UNPACKED_PER_BYTE = 16 << 20, 256
"""Maximum bytes of an index in memory: a constant plus a factor of the file size; equal rows reach 80."""

_DAMAGE = (pa.ArrowException, OSError, ArithmeticError, TypeError, ValueError)


def parse_index(data: bytes, *, shard_rows: Sequence[int]) -> tuple[IndexRow, ...]:
    """Parse and check an index file.

    Args:
        data: The content of the file.
        shard_rows: The number of rows of each shard of the set.

    Raises:
        DataError: The file is damaged or needs too much memory for its size, or a row is invalid.
    """
    try:
        rows = from_table(_table(data))
    except _DAMAGE as error:
        raise DataError(f"damaged ({error}). Copy the whole set again, or prepare it again.") from error
    for row in rows:
        if problem := _problem(row, shard_rows):
            raise DataError(f"{row.id}: {problem}. Prepare the set again.")
    return rows


def _table(data: bytes) -> Any:
    """Read the table of a file in batches, since a few bytes can encode a very long repeated text."""
    file = pq.ParquetFile(io.BytesIO(data))
    if not file.schema_arrow.equals(SCHEMA):
        raise DataError(
            f"got the columns {', '.join(file.schema_arrow.names)}; expected {', '.join(SCHEMA.names)}. "
            "Prepare the set again."
        )
    max_bytes = _UNPACKED + _UNPACKED_PER_BYTE * len(data)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    declared = max(
        sum(column.num_values for column in columns),
        sum(column.total_uncompressed_size for column in columns),
    )
    batches, taken = [], declared
    for batch in file.iter_batches(batch_size=64, use_threads=False) if declared <= max_bytes else ():
        batches.append(batch)
        taken += batch.nbytes
        if taken > max_bytes:
            break
    if taken > max_bytes:
        raise DataError(
            f"got {len(data)} bytes that unpack to more than {max_bytes}; expected less. "
            "Prepare the set again."
        )
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


def _problem(row: IndexRow, shard_rows: Sequence[int]) -> str | None:
    """Return the first invalid value of a row, or None."""
    num_tiles = -(-row.height // TILE) * -(-row.width // TILE)
    if row.split not in get_args(Split):
        return f"got the split {row.split!r}; expected {' or '.join(get_args(Split))}"
    if not (1 <= row.height <= MAX_SIDE and 1 <= row.width <= MAX_SIDE):
        return f"got {row.height} x {row.width} pixels; expected sides of 1..{MAX_SIDE}"
    if not 0 <= row.shard < len(shard_rows):
        return f"got shard {row.shard}; expected 0..{len(shard_rows) - 1}"
    if not 0 <= row.first_row <= shard_rows[row.shard] - num_tiles:
        return (
            f"got first_row {row.first_row} with {num_tiles} tiles; expected tiles within the "
            f"{shard_rows[row.shard]} rows of the shard"
        )
    if set(row.maps) - MAPS.keys() or len(set(row.maps)) < len(row.maps):
        return (
            f"got the maps {', '.join(map(str, row.maps))}; expected each at most once, of {', '.join(MAPS)}"
        )
    if row.label is not None and row.label not in CLASSES:
        return f"got the class {row.label!r}; expected one of {', '.join(CLASSES)}"
    return _invalid_numbers(row)


def _invalid_numbers(row: IndexRow) -> str | None:
    counts = row.class_pixels
    if len(counts) != len(CLASSES) or any(count is None or count < 0 for count in counts):
        return f"got invalid class_pixels; expected {len(CLASSES)} counts"
    if sum(counts) > row.height * row.width:
        return (
            f"got {sum(counts)} class_pixels; expected at most {row.height * row.width}, the number of pixels"
        )
    for name, values in row.means.items():
        if name not in row.maps or len(values) != MAPS[name].channels or not all(map(_is_share, values)):
            return f"got invalid means of {name}; expected a number in 0..1 for each channel"
    if row.height_range is not None and not all(map(_is_finite, row.height_range)):
        return "got an invalid height_range; expected two numbers"
    return None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _is_share(value: float | None) -> bool:
    return value is not None and 0.0 <= value <= 1.0

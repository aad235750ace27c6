"""The index file, read as if anyone had written it: rows that point into the set, in bounded memory."""

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

MOST_SIDE = 256 * TILE
"""The longest side of a material in pixels; the order of tiles is made for no more."""

_UNPACKED, _UNPACKED_PER_BYTE = 16 << 20, 256
"""Bytes that any index may take once read, and those for each byte of its file; like rows reach eighty."""

_DAMAGE = (pa.ArrowException, OSError, ArithmeticError, TypeError, ValueError)


def parse_index(data: bytes, *, shard_rows: Sequence[int]) -> tuple[IndexRow, ...]:
    """The rows of an index file.

    Args:
        data: The file.
        shard_rows: How many rows each shard of the set has.

    Raises:
        DataError: It is damaged, takes absurdly much memory for its length, or a row names what is not there.
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
    """The table of a file, read in pieces: a few bytes can stand for a text repeated without end."""
    file = pq.ParquetFile(io.BytesIO(data))
    if not file.schema_arrow.equals(SCHEMA):
        raise DataError(f"its columns are {', '.join(file.schema_arrow.names)}. Prepare the set again.")
    most = _UNPACKED + _UNPACKED_PER_BYTE * len(data)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    declared = max(
        sum(column.num_values for column in columns),
        sum(column.total_uncompressed_size for column in columns),
    )
    batches, taken = [], declared
    for batch in file.iter_batches(batch_size=64, use_threads=False) if declared <= most else ():
        batches.append(batch)
        taken += batch.nbytes
        if taken > most:
            break
    if taken > most:
        raise DataError(f"{len(data)} bytes that stand for more than {most}. Prepare the set again.")
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


def _problem(row: IndexRow, shard_rows: Sequence[int]) -> str | None:
    """What of a row is not so in any set, or points out of this one."""
    num_tiles = -(-row.height // TILE) * -(-row.width // TILE)
    if row.split not in get_args(Split):
        return f"split {row.split!r}, there are {' and '.join(get_args(Split))}"
    if not (1 <= row.height <= MOST_SIDE and 1 <= row.width <= MOST_SIDE):
        return f"{row.height} x {row.width} pixels, sides are 1..{MOST_SIDE}"
    if not 0 <= row.shard < len(shard_rows):
        return f"shard {row.shard}, the set has {len(shard_rows)}"
    if not 0 <= row.first_row <= shard_rows[row.shard] - num_tiles:
        return f"first_row {row.first_row} with {num_tiles} tiles, its shard has {shard_rows[row.shard]} rows"
    if set(row.maps) - MAPS.keys() or len(set(row.maps)) < len(row.maps):
        return f"maps {', '.join(map(str, row.maps))}, each is once one of {', '.join(MAPS)}"
    if row.label is not None and row.label not in CLASSES:
        return f"class {row.label!r}, there are {', '.join(CLASSES)}"
    return _wrong_figures(row)


def _wrong_figures(row: IndexRow) -> str | None:
    counts = row.class_pixels
    if len(counts) != len(CLASSES) or any(count is None or count < 0 for count in counts):
        return f"class_pixels are not {len(CLASSES)} counts"
    if sum(counts) > row.height * row.width:
        return f"class_pixels are {sum(counts)} in all, more than its pixels"
    for name, values in row.means.items():
        if name not in row.maps or len(values) != MAPS[name].channels or not all(map(_is_share, values)):
            return f"means of {name} are not one in 0..1 for each channel"
    if row.height_range is not None and not all(map(_is_finite, row.height_range)):
        return "height_range is not two numbers"
    return None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _is_share(value: float | None) -> bool:
    return value is not None and 0.0 <= value <= 1.0

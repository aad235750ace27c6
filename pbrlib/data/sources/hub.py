"""MatSynth's Parquet files as the Hugging Face hub has them: which rows there are, and one image of a row.

Listing reads names, categories and licences, never an image: an image column of a row group is hundreds of
megabytes. The writer of these files keeps all values of a column chunk in one page, so that one image costs
reading its chunk; images are therefore read column by column, and only one chunk is held at a time.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pbrlib.errors import DataError

CATEGORIES = (
    "ceramic",
    "concrete",
    "fabric",
    "ground",
    "leather",
    "marble",
    "metal",
    "misc",
    "plaster",
    "plastic",
    "stone",
    "terracotta",
    "wood",
)
"""The names of the integers in the column ``category``."""

_FACTS = ("license", "authors", "link")
_SMALL = ["name", "category", *(f"metadata.{fact}" for fact in _FACTS)]
_BUFFER_BYTES = 1 << 20
_WAY_OUT = "Download it again from gvecchio/MatSynth."


@dataclass(frozen=True)
class HubRow:
    """What a row says besides its images; ``place`` names its file, row group and row."""

    name: str
    category: str
    licence: str
    authors: tuple[str, ...]
    link: str
    place: str


def find_files(path: str) -> list[str]:
    """The Parquet files of a path: a file, a folder, or a pattern; sorted.

    Raises:
        DataError: There is none.
    """
    given = Path(path)
    if given.is_file():
        return [path]
    if given.is_dir():
        found = given.rglob("*.parquet")
    else:
        found = Path(given.anchor).glob(str(given.relative_to(given.anchor)))
    files = sorted(str(file) for file in found if file.is_file())
    if not files:
        raise DataError(f"{path}: no such file. Give Parquet files, such as path=/data/matsynth/*.parquet.")
    return files


def list_rows(file: str, *, columns: Iterable[str]) -> Iterator[HubRow]:
    """The rows of a file, in order.

    Args:
        file: A Parquet file.
        columns: The image columns that it must have.

    Raises:
        DataError: It is not Parquet, or of another schema.
    """
    with _opened(file) as parquet:
        _check_schema(file, parquet.schema_arrow, columns=columns)
        for group in range(parquet.num_row_groups):
            records = parquet.read_row_group(group, columns=_SMALL, use_threads=False).to_pylist()
            for number, record in enumerate(records):
                yield _row(record, place=f"{file}#{group}/{number}")


def read_row(place: str, *, name: str) -> HubRow:
    """The row at a place; raises DataError if there is none or it is not called ``name``."""
    file, group, number = _parsed(place)
    with _opened(file) as parquet:
        found = None
        if group < parquet.num_row_groups and number < parquet.metadata.row_group(group).num_rows:
            records = parquet.read_row_group(group, columns=_SMALL, use_threads=False)
            found = _row(records.slice(number, 1).to_pylist()[0], place=place)
    if found is None or found.name != name:
        raise DataError(f"{place}: is no longer {name}. List the entries again.")
    return found


def read_image(row: HubRow, column: str) -> io.BytesIO:
    """The encoded bytes of an image; raises DataError naming file, row and column if there are none."""
    file, group, number = _parsed(row.place)
    with _opened(file) as parquet:
        batches = parquet.iter_batches(
            batch_size=1, row_groups=[group], columns=[f"{column}.bytes"], use_threads=False
        )
        batch = next(batch for position, batch in enumerate(batches) if position == number)
        image = batch.column(0)[0].as_py()
    if image is None or not image["bytes"]:
        raise DataError(f"{row.place}: {row.name}: {column}: no image. {_WAY_OUT}")
    return io.BytesIO(image["bytes"])


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    try:
        with pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read as Parquet ({error}). {_WAY_OUT}") from error


def _parsed(place: str) -> tuple[str, int, int]:
    parts = re.fullmatch(r"(.+)#(\d+)/(\d+)", place)
    if parts is None:
        raise DataError(f"{place!r} is no row of a Parquet file. List the entries again.")
    return parts[1], int(parts[2]), int(parts[3])


def _row(record: dict[str, Any], *, place: str) -> HubRow:
    name, category, facts = record["name"], record["category"], record["metadata"] or {}
    if not name:
        raise DataError(f"{place}: a row without a name. {_WAY_OUT}")
    if category is None or not 0 <= category < len(CATEGORIES):
        raise DataError(
            f"{place}: {name}: category {category} is not in 0..{len(CATEGORIES) - 1}. {_WAY_OUT}"
        )
    authors = facts.get("authors") or ()
    return HubRow(
        name=name,
        category=CATEGORIES[category],
        licence=facts.get("license") or "",
        authors=(authors,) if isinstance(authors, str) else tuple(filter(None, authors)),
        link=facts.get("link") or "",
        place=place,
    )


def _check_schema(file: str, schema: Any, *, columns: Iterable[str]) -> None:
    wanted = {"name": (), "category": (), "metadata": _FACTS, **dict.fromkeys(columns, ("bytes",))}
    for column, parts in wanted.items():
        number = schema.get_field_index(column)
        if number < 0:
            raise DataError(f"{file}: no column {column}, only {', '.join(schema.names)}. {_WAY_OUT}")
        found = schema.field(number).type
        inside = [found.field(i).name for i in range(found.num_fields)] if pa.types.is_struct(found) else []
        missing = [part for part in parts if part not in inside]
        if missing:
            raise DataError(f"{file}: column {column} is {found}, without {', '.join(missing)}. {_WAY_OUT}")
    category = schema.field("category").type
    if not pa.types.is_integer(category):
        raise DataError(f"{file}: column category is {category}, not the number of a class. {_WAY_OUT}")
    names = _class_names(file, schema)
    if names is not None and names != CATEGORIES:
        raise DataError(
            f"{file}: its categories are {', '.join(map(str, names))}; those of MatSynth are "
            f"{', '.join(CATEGORIES)}. {_WAY_OUT}"
        )


def _class_names(file: str, schema: Any) -> tuple[Any, ...] | None:
    """The names of the categories, as the schema's metadata of the hub has them; None if it has none."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        return tuple(json.loads(raw)["info"]["features"]["category"]["names"])
    except (ValueError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{file}: no category names in its metadata ({reason}). {_WAY_OUT}") from error

"""Reads MatSynth's Parquet files of the Hugging Face hub: lists rows, and reads single images.

Listing reads names, categories and licences only, since an image column of a row group has hundreds of
megabytes. In these files a column chunk is one page, so that reading an image reads its whole chunk. Images
are therefore read column by column, with one chunk in memory at a time.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pbrlib.errors import DataError, first_line

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
_BUFFER_BYTES = 1 << 20
_REMEDY = "Use the unchanged file of gvecchio/MatSynth on the hub."
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class HubRow:
    """The values of a row without its images; ``place`` is its file, row group and row."""

    name: str
    category: str
    licence: str
    authors: tuple[str, ...]
    link: str
    place: str


@dataclass(frozen=True)
class Listing:
    """The rows of a file, the errors of rows that cannot be used, and the missing columns."""

    rows: tuple[HubRow, ...]
    problems: tuple[str, ...]
    absent: tuple[str, ...]


def find_files(path: str) -> list[str]:
    """Return the sorted Parquet files of a path: a file, a folder, or a pattern.

    Raises:
        DataError: There are no such files.
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
        raise DataError(f"{path}: {_no_files(given)}")
    return files


def _no_files(given: Path) -> str:
    example = "Give Parquet files, such as path=/data/matsynth/*.parquet."
    if not given.is_dir():
        return f"no such file. {example}"
    if next(given.rglob("*.arrow"), None) is not None:
        return (
            "got .arrow files, as `save_to_disk` of the datasets library writes them; expected Parquet. "
            "Convert them with datasets.load_from_disk(FOLDER).to_parquet(FILE), or download Parquet files."
        )
    return f"no Parquet file in this folder. {example}"


def list_rows(file: str, *, required: Iterable[str], optional: Iterable[str]) -> Listing:
    """List the rows of a file in order.

    Args:
        file: A Parquet file.
        required: The required image columns.
        optional: The optional image columns.

    Raises:
        DataError: The file is not Parquet, or has another schema.
    """
    rows, problems = [], []
    with _open(file) as parquet:
        schema = parquet.schema_arrow
        _check_schema(file, schema, required=required, optional=optional)
        for group in range(parquet.num_row_groups):
            for number, record in enumerate(_read_records(parquet, group).to_pylist()):
                try:
                    rows.append(_row(record, place=f"{file}#{group}/{number}"))
                except DataError as error:
                    problems.append(str(error))
    absent = [column for column in ("metadata", *optional) if not _has(schema, column)]
    return Listing(tuple(rows), tuple(problems), tuple(absent))


def read_row(place: str, *, name: str) -> HubRow:
    """Read the row at a place; raises DataError if there is no row or it has another name."""
    file, group, number = _parse_place(place)
    with _open(file) as parquet:
        found = None
        if group < parquet.num_row_groups and number < parquet.metadata.row_group(group).num_rows:
            found = _row(_read_records(parquet, group).slice(number, 1).to_pylist()[0], place=place)
    if found is None or found.name != name:
        raise DataError(f"{place}: no row {name} here any more. List the entries again.")
    return found


def read_image(row: HubRow, column: str) -> io.BytesIO | None:
    """Read the encoded bytes of an image, or None if the row has none.

    Raises:
        DataError: The file cannot be read.
    """
    file, group, number = _parse_place(row.place)
    with _open(file) as parquet:
        if column not in parquet.schema_arrow.names:
            return None
        batches = parquet.iter_batches(
            batch_size=1, row_groups=[group], columns=[f"{column}.bytes"], use_threads=False
        )
        batch = next(batch for position, batch in enumerate(batches) if position == number)
        image = batch.column(0)[0].as_py()
    return None if image is None or not image["bytes"] else io.BytesIO(image["bytes"])


@contextmanager
def _open(file: str) -> Iterator[Any]:
    try:
        with pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: {_diagnosis(Path(file)) or _unreadable(error)}") from error


def _unreadable(error: Exception) -> str:
    return f"cannot be read as Parquet ({first_line(error)}). {_REMEDY}"


def _diagnosis(file: Path) -> str | None:
    """Return what a file is instead of Parquet and what to do, or None if it looks like Parquet."""
    try:
        with file.open("rb") as opened:
            head = opened.read(64)
            opened.seek(-min(len(_MAGIC), file.stat().st_size), io.SEEK_END)
            tail = opened.read()
    except OSError as error:
        return f"cannot be read ({error.strerror}). Check its disk and its owner."
    if not head:
        return "got an empty file; expected Parquet. Download it again."
    if head.startswith(b"version https://git-lfs"):
        return "got a pointer of git-lfs; expected Parquet. Run `git lfs pull` in its folder."
    if head.startswith(_MAGIC):
        return (
            None
            if tail == _MAGIC
            else "got a truncated file; expected its end. Resume its download by running `hf download` again."
        )
    start = head[:40].decode("ascii", "replace")
    if head.lstrip()[:1] in (b"<", b"{"):
        return (
            f"got the response of a web server, {start!r}; expected Parquet. Log in with `hf auth login`, "
            "accept the terms of the data set, and download it again."
        )
    return f"got a file that starts with {start!r}; expected Parquet. Exclude it from path=."


def _read_records(parquet: Any, group: int) -> Any:
    """Read the columns of a row group that are not images and exist in the file."""
    metadata = parquet.schema_arrow.field("metadata").type if _has(parquet.schema_arrow, "metadata") else None
    facts = [fact for fact in _FACTS if metadata is not None and metadata.get_field_index(fact) >= 0]
    columns = ["name", "category", *(f"metadata.{fact}" for fact in facts)]
    return parquet.read_row_group(group, columns=columns, use_threads=False)


def _parse_place(place: str) -> tuple[str, int, int]:
    parts = re.fullmatch(r"(.+)#(\d+)/(\d+)", place)
    if parts is None:
        raise DataError(f"{place!r}: got no row of a Parquet file. List the entries again.")
    return parts[1], int(parts[2]), int(parts[3])


def _row(record: dict[str, Any], *, place: str) -> HubRow:
    name, category, facts = record["name"], record["category"], record.get("metadata") or {}
    if not name:
        raise DataError(f"{place}: got a row without a name; expected a name. Remove the row.")
    if isinstance(category, int) and 0 <= category < len(CATEGORIES):
        category = CATEGORIES[category]
    if category not in CATEGORIES:
        raise DataError(
            f"{place}: {name}: got category {category!r}; expected 0..{len(CATEGORIES) - 1} or one of "
            f"{', '.join(CATEGORIES)}. Correct the row, or leave it out."
        )
    authors = facts.get("authors") or ()
    return HubRow(
        name=name,
        category=category,
        licence=facts.get("license") or "",
        authors=(authors,) if isinstance(authors, str) else tuple(filter(None, authors)),
        link=facts.get("link") or "",
        place=place,
    )


def _has(schema: Any, column: str) -> bool:
    return bool(schema.get_field_index(column) >= 0)


def _check_schema(file: str, schema: Any, *, required: Iterable[str], optional: Iterable[str]) -> None:
    for column in ("name", "category", *required):
        if not _has(schema, column):
            raise DataError(f"{file}: no column {column}, only {', '.join(schema.names)}. {_REMEDY}")
    for column in (*required, *filter(partial(_has, schema), optional)):
        found = schema.field(column).type
        if not pa.types.is_struct(found) or found.get_field_index("bytes") < 0:
            raise DataError(f"{file}: column {column}: got {found}; expected a struct with bytes. {_REMEDY}")
    if _has(schema, "metadata") and not pa.types.is_struct(schema.field("metadata").type):
        found = schema.field("metadata").type
        facts = ", ".join(_FACTS)
        raise DataError(f"{file}: column metadata: got {found}; expected a struct of {facts}. {_REMEDY}")
    category = schema.field("category").type
    if not (
        pa.types.is_integer(category) or pa.types.is_string(category) or pa.types.is_dictionary(category)
    ):
        raise DataError(
            f"{file}: column category: got {category}; expected numbers or names of classes. {_REMEDY}"
        )
    names = _class_names(file, schema)
    if names is not None and names != CATEGORIES:
        raise DataError(
            f"{file}: got the categories {', '.join(map(str, names))}; expected those of MatSynth: "
            f"{', '.join(CATEGORIES)}. {_REMEDY}"
        )


def _class_names(file: str, schema: Any) -> tuple[Any, ...] | None:
    """Return the names of the categories in the hub's metadata of the schema, or None without metadata."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        category = json.loads(raw)["info"]["features"]["category"]
        return tuple(category["names"]) if category.get("_type", "ClassLabel") == "ClassLabel" else None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{file}: no category names in its metadata ({reason}). {_REMEDY}") from error

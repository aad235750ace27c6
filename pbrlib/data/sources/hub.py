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
_WAY_OUT = "Take the file of gvecchio/MatSynth as it is on the hub."
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class HubRow:
    """What a row says besides its images; ``place`` names its file, row group and row."""

    name: str
    category: str
    licence: str
    authors: tuple[str, ...]
    link: str
    place: str


@dataclass(frozen=True)
class Listing:
    """The rows of a file, what is wrong with those that are left out, and the columns that it lacks."""

    rows: tuple[HubRow, ...]
    problems: tuple[str, ...]
    absent: tuple[str, ...]


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
        raise DataError(f"{path}: {_no_files(given)}")
    return files


def _no_files(given: Path) -> str:
    example = "Give Parquet files, such as path=/data/matsynth/*.parquet."
    if not given.is_dir():
        return f"no such file. {example}"
    if next(given.rglob("*.arrow"), None) is not None:
        return (
            "holds .arrow files, as `save_to_disk` of the datasets library writes; expected Parquet. Write "
            "them with datasets.load_from_disk(FOLDER).to_parquet(FILE), or download the Parquet files."
        )
    return f"no Parquet file in this folder. {example}"


def list_rows(file: str, *, required: Iterable[str], optional: Iterable[str]) -> Listing:
    """List the rows of a file in order.

    Args:
        file: A Parquet file.
        required: The image columns that it must have.
        optional: The image columns that it may lack.

    Raises:
        DataError: It is not Parquet, or of another schema.
    """
    rows, problems = [], []
    with _opened(file) as parquet:
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
    """The row at a place; raises DataError if there is none or it is not called ``name``."""
    file, group, number = _parsed(place)
    with _opened(file) as parquet:
        found = None
        if group < parquet.num_row_groups and number < parquet.metadata.row_group(group).num_rows:
            found = _row(_read_records(parquet, group).slice(number, 1).to_pylist()[0], place=place)
    if found is None or found.name != name:
        raise DataError(f"{place}: is no longer {name}. List the entries again.")
    return found


def read_image(row: HubRow, column: str) -> io.BytesIO | None:
    """Read the encoded bytes of an image, or None if the row has none.

    Raises:
        DataError: The file cannot be read there; names it.
    """
    file, group, number = _parsed(row.place)
    with _opened(file) as parquet:
        if column not in parquet.schema_arrow.names:
            return None
        batches = parquet.iter_batches(
            batch_size=1, row_groups=[group], columns=[f"{column}.bytes"], use_threads=False
        )
        batch = next(batch for position, batch in enumerate(batches) if position == number)
        image = batch.column(0)[0].as_py()
    return None if image is None or not image["bytes"] else io.BytesIO(image["bytes"])


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    try:
        with pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: {_diagnosis(Path(file)) or _unreadable(error)}") from error


def _unreadable(error: Exception) -> str:
    return f"cannot be read as Parquet ({first_line(error)}). {_WAY_OUT}"


def _diagnosis(file: Path) -> str | None:
    """What a file is that is no Parquet, and what to do; None if it looks like one."""
    try:
        with file.open("rb") as opened:
            head = opened.read(64)
            opened.seek(-min(len(_MAGIC), file.stat().st_size), io.SEEK_END)
            tail = opened.read()
    except OSError as error:
        return f"cannot be read ({error.strerror}). Check its disk and its owner."
    if not head:
        return "is empty. The download never began: start it again."
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the data. Run `git lfs pull` in its folder."
    if head.startswith(_MAGIC):
        return (
            None if tail == _MAGIC else "is cut off. Resume its download; `hf download` does when repeated."
        )
    start = head[:40].decode("ascii", "replace")
    if head.lstrip()[:1] in (b"<", b"{"):
        return (
            f"is an answer of a web server, not the data: {start!r}. Log in with `hf auth login`, accept the "
            "terms of the data set, and download it again."
        )
    return f"is no Parquet file: it starts with {start!r}. Leave it out of path=."


def _read_records(parquet: Any, group: int) -> Any:
    """The columns of a row group that are not images, as far as the file has them."""
    metadata = parquet.schema_arrow.field("metadata").type if _has(parquet.schema_arrow, "metadata") else None
    facts = [fact for fact in _FACTS if metadata is not None and metadata.get_field_index(fact) >= 0]
    columns = ["name", "category", *(f"metadata.{fact}" for fact in facts)]
    return parquet.read_row_group(group, columns=columns, use_threads=False)


def _parsed(place: str) -> tuple[str, int, int]:
    parts = re.fullmatch(r"(.+)#(\d+)/(\d+)", place)
    if parts is None:
        raise DataError(f"{place!r} is no row of a Parquet file. List the entries again.")
    return parts[1], int(parts[2]), int(parts[3])


def _row(record: dict[str, Any], *, place: str) -> HubRow:
    name, category, facts = record["name"], record["category"], record.get("metadata") or {}
    if not name:
        raise DataError(f"{place}: got a row without a name; expected one. Leave the row out.")
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
            raise DataError(f"{file}: no column {column}, only {', '.join(schema.names)}. {_WAY_OUT}")
    for column in (*required, *filter(partial(_has, schema), optional)):
        found = schema.field(column).type
        if not pa.types.is_struct(found) or found.get_field_index("bytes") < 0:
            raise DataError(f"{file}: column {column} is {found}, without bytes. {_WAY_OUT}")
    if _has(schema, "metadata") and not pa.types.is_struct(schema.field("metadata").type):
        found = schema.field("metadata").type
        raise DataError(f"{file}: column metadata is {found}, without {', '.join(_FACTS)}. {_WAY_OUT}")
    category = schema.field("category").type
    if not (
        pa.types.is_integer(category) or pa.types.is_string(category) or pa.types.is_dictionary(category)
    ):
        raise DataError(
            f"{file}: column category is {category}, neither number nor name of a class. {_WAY_OUT}"
        )
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
        category = json.loads(raw)["info"]["features"]["category"]
        return tuple(category["names"]) if category.get("_type", "ClassLabel") == "ClassLabel" else None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{file}: no category names in its metadata ({reason}). {_WAY_OUT}") from error

"""Files that are not of MatSynth's schema, as the source that lists them meets them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pbrlib.data.sources.hub import CATEGORIES
from pbrlib.data.sources.matsynth import MatSynthSource
from pbrlib.errors import DataError
from tests.data.sources.hub_files import SCHEMA, row, write


def without(*names: str) -> pa.Schema:
    return pa.schema([field for field in SCHEMA if field.name not in names])


def with_type(name: str, kind: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(f.name, kind) if f.name == name else f for f in SCHEMA])


@pytest.mark.parametrize("column", ["name", "category", "metadata", "basecolor", "height"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    schema = without(column)
    path = write(
        tmp_path / "a.parquet", {k: v for k, v in row("a", "wood").items() if k != column}, schema=schema
    )
    with pytest.raises(DataError, match=rf"a\.parquet: no column {column}, only .* Download it again"):
        MatSynthSource(str(path)).entries()


def test_columns_that_are_not_read_may_be_missing(tmp_path: Path) -> None:
    unread = ("diffuse", "specular", "opacity", "displacement", "blend_mask")
    record = {k: v for k, v in row("a", "wood").items() if k not in unread}
    assert MatSynthSource(str(write(tmp_path / "a.parquet", record, schema=without(*unread)))).entries()


def test_other_types_of_columns_are_refused(tmp_path: Path) -> None:
    record = row("a", "wood") | {"category": "wood"}
    path = write(tmp_path / "a.parquet", record, schema=with_type("category", pa.string()))
    with pytest.raises(DataError, match="column category is string"):
        MatSynthSource(str(path)).entries()
    paths = pa.struct([("path", pa.string())])
    record = row("a", "wood") | {"normal": {"path": "normal.png"}}
    path = write(tmp_path / "b.parquet", record, schema=with_type("normal", paths))
    with pytest.raises(DataError, match="column normal is struct<path: string>, without bytes"):
        MatSynthSource(str(path)).entries()


def test_other_names_of_categories_are_refused(tmp_path: Path) -> None:
    names = ("brick", *CATEGORIES[1:])
    path = write(tmp_path / "a.parquet", row("a", "wood"), names=names)
    with pytest.raises(
        DataError, match=r"its categories are brick, concrete.* those of MatSynth are ceramic"
    ):
        MatSynthSource(str(path)).entries()
    bare = write(tmp_path / "b.parquet", row("a", "wood"), names=None)
    assert MatSynthSource(str(bare)).entries()


@pytest.mark.parametrize("category", [13, -1, None])
def test_a_category_out_of_range_is_named(tmp_path: Path, category: int | None) -> None:
    path = write(tmp_path / "a.parquet", row("a", category))
    with pytest.raises(DataError, match=rf"a\.parquet#0/0: a: category {category} is not in 0\.\.12"):
        MatSynthSource(str(path)).entries()


def test_what_is_no_parquet_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet"):
        MatSynthSource(str(tmp_path / "a.parquet")).entries()
    with pytest.raises(DataError, match="no such file"):
        MatSynthSource(str(tmp_path / "b*.parquet")).entries()

"""Tests of files with another schema than MatSynth's."""

from __future__ import annotations

import re
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


def problem_of(path: Path) -> str:
    """Return the error of the only file of a source, whose rows are all left out."""
    source = MatSynthSource(str(path))
    assert source.entries() == []
    (finding,) = source.left_out()
    assert finding.severity == "error"
    return finding.message


@pytest.mark.parametrize("column", ["name", "category", "basecolor", "normal"])
def test_a_missing_column_is_an_error_with_its_name(tmp_path: Path, column: str) -> None:
    record = {k: v for k, v in row("a", "wood").items() if k != column}
    path = write(tmp_path / "a.parquet", record, schema=without(column))
    assert re.search(rf"a\.parquet: no column {column}, only .* on the hub", problem_of(path))


@pytest.mark.parametrize("column", ["metadata", "roughness", "metallic", "height"])
def test_optional_columns_may_be_missing(tmp_path: Path, column: str) -> None:
    record = {k: v for k, v in row("a", "wood").items() if k != column}
    source = MatSynthSource(str(write(tmp_path / "a.parquet", record, schema=without(column))))
    (entry,) = source.entries()
    assert column not in source.load(entry).maps
    assert [(f.severity, f.check) for f in source.left_out()] == [("warning", "column")]
    assert f"no column {column}" in source.left_out()[0].message


def test_columns_that_are_not_read_may_be_missing(tmp_path: Path) -> None:
    unread = ("diffuse", "specular", "opacity", "displacement", "blend_mask")
    record = {k: v for k, v in row("a", "wood").items() if k not in unread}
    source = MatSynthSource(str(write(tmp_path / "a.parquet", record, schema=without(*unread))))
    assert source.entries()
    assert source.left_out() == []


def test_other_types_of_columns_are_refused(tmp_path: Path) -> None:
    record = row("a", "wood") | {"category": 0.5}
    path = write(tmp_path / "a.parquet", record, schema=with_type("category", pa.float32()))
    assert "column category: got float" in problem_of(path)
    for column in ("normal", "height"):
        paths = pa.struct([("path", pa.string())])
        record = row("a", "wood") | {column: {"path": "normal.png"}}
        path = write(tmp_path / "b.parquet", record, schema=with_type(column, paths))
        assert f"column {column}: got struct<path: string>; expected a struct with bytes" in problem_of(path)


def test_categories_may_be_written_as_their_names(tmp_path: Path) -> None:
    records = [row(name, "wood") | {"category": name} for name in ("wood", "brick")]
    path = write(tmp_path / "a.parquet", *records, schema=with_type("category", pa.string()), names=None)
    source = MatSynthSource(str(path))
    assert [(entry.id, entry.label) for entry in source.entries()] == [("wood", "wood")]
    assert "got category 'brick'" in source.left_out()[0].message


def test_other_names_of_categories_are_refused(tmp_path: Path) -> None:
    names = ("brick", *CATEGORIES[1:])
    path = write(tmp_path / "a.parquet", row("a", "wood"), names=names)
    assert re.search(r"got the categories brick, concrete.* those of MatSynth: ceramic", problem_of(path))
    bare = write(tmp_path / "b.parquet", row("a", "wood"), names=None)
    assert MatSynthSource(str(bare)).entries()


@pytest.mark.parametrize("category", [13, -1, None])
def test_a_category_out_of_range_is_an_error(tmp_path: Path, category: int | None) -> None:
    path = write(tmp_path / "a.parquet", row("a", category))
    assert f"a.parquet#0/0: a: got category {category}; expected 0..12" in problem_of(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1 nothing", "got a truncated file"),
        (b"PAR1 nothing PAR1", "cannot be read as Parquet"),
        (b"", "got an empty file"),
        (b"<!DOCTYPE html>", "got the response of a web server"),
        (b'{"error": "gated"}', "got the response of a web server"),
        (b"version https://git-lfs.github.com/spec/v1", "got a pointer of git-lfs"),
        (b"\x1f\x8b\x08", "got a file that starts with"),
        (b"\n", "got a file that starts with"),
    ],
)
def test_a_file_that_is_not_parquet_is_an_error_with_a_remedy(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert f"a.parquet: {said}" in problem_of(tmp_path / "a.parquet")


def test_a_path_without_parquet_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        MatSynthSource(str(tmp_path / "b*.parquet")).entries()
    with pytest.raises(DataError, match="no Parquet file in this folder"):
        MatSynthSource(str(tmp_path)).entries()
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"ARROW1")
    with pytest.raises(DataError, match="to_parquet"):
        MatSynthSource(str(tmp_path)).entries()


def test_names_with_digits_of_other_scripts_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", row("acg_m\u00b2_\u00b2", "wood"))
    assert len(MatSynthSource(str(path)).entries()) == 1

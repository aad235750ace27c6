"""Tests of untrusted manifests and indexes: the set can be read, or a DataError is raised."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib.data.shards.cells import cells_of
from pbrlib.data.shards.index import SCHEMA, IndexRow, to_table
from pbrlib.data.shards.manifest import Manifest, load_manifest, read_index
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES
from tests.data.shards.materials import make_set, material
from tests.hostile import JSON, changed

MOST_BYTES = 64 << 20
"""The maximum Arrow memory for reading a small index."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    make_set(root, [material(0), material(1, size=(64, 200), tileable=False)], [material(2)])
    return root


@pytest.fixture(scope="module")
def opened(root: Path) -> ShardSet:
    return ShardSet.open(root)


@pytest.fixture(autouse=True)
def as_it_was(root: Path, opened: ShardSet) -> Iterator[None]:
    whole = {path: path.read_bytes() for path in root.iterdir() if path.is_file()}
    yield
    for path, content in whole.items():
        path.write_bytes(content)


def read_as_index(root: Path, opened: ShardSet, content: bytes) -> tuple[IndexRow, ...]:
    """Read the index with this content."""
    index = opened.manifest.index.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    (root / index.file).write_bytes(content)
    return read_index(root, manifest=opened.manifest.model_copy(update={"index": index}))


def file_of(table: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def check_usable(root: Path, opened: ShardSet, rows: tuple[IndexRow, ...]) -> None:
    """Read everything in an accepted index; only DataError may be raised."""
    shards = ShardSet(str(root), manifest=opened.manifest, rows=rows)
    for row in rows:
        try:
            assert cells_of(row).shape[0] == len(CLASSES)
            for name, pixels in shards.read_whole(row, row.maps).items():
                assert pixels.shape[:2] == (row.height, row.width), name
        except DataError:
            continue


@given(st.sampled_from(sorted(Manifest.model_fields)), JSON)
def test_a_manifest_with_arbitrary_values_is_valid_or_refused(root: Path, name: str, value: object) -> None:
    file = root / "manifest.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, name: value}))
    try:
        assert len(load_manifest(root).fingerprint) == 64
    except DataError as error:
        assert str(error).startswith(f"{file}: ")
    finally:
        file.write_text(json.dumps(content))


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_as_a_manifest_are_refused(root: Path, content: bytes) -> None:
    file = root / "manifest.json"
    before = file.read_bytes()
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=r"manifest\.json: (not JSON|got format version|got the manifest of a folder)"
    ):
        load_manifest(root)
    file.write_bytes(before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": {"file": "../../secret", "sha256": ""}}, r"index\.file"),
        ({"index": {"file": "a\0b", "sha256": ""}}, r"index\.file"),
        ({"shards": [{"file": "/etc/passwd", "rows": 1, "bytes": 1, "sha256": ""}]}, r"shards\.0\.file"),
        ({"shards": [{"file": "shards/a", "rows": -1, "bytes": 1, "sha256": ""}]}, r"shards\.0\.rows"),
        ({"tile": 128}, "tile"),
        ({"version": -1}, "version"),
    ],
)
def test_a_manifest_with_invalid_values_is_refused(root: Path, changes: dict[str, Any], words: str) -> None:
    file = root / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(DataError, match=rf"manifest\.json: {words}: "):
        load_manifest(root)


def test_a_deeply_nested_manifest_is_refused(root: Path) -> None:
    (root / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"manifest\.json: not JSON"):
        load_manifest(root)


def test_a_manifest_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        load_manifest(tmp_path)


@given(data=st.data())
def test_a_changed_index_file_is_valid_or_refused(root: Path, opened: ShardSet, data: st.DataObject) -> None:
    content = bytearray(file_of(to_table(opened.rows)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = read_as_index(root, opened, bytes(content))
    except DataError as error:
        assert str(error).startswith(f"{root / opened.manifest.index.file}: ")
        return
    check_usable(root, opened, rows)


@settings(max_examples=60)
@pytest.mark.parametrize("name", ["manifest.json", "index-0001.parquet", "shards/0001-00001.parquet"])
@given(data=st.data())
def test_a_changed_file_of_a_set_is_harmless_or_an_error_with_its_name(
    root: Path, opened: ShardSet, name: str, data: st.DataObject
) -> None:
    whole = (root / name).read_bytes()
    (root / name).write_bytes(data.draw(changed(whole)))
    row = opened.rows[2]
    try:
        shards = ShardSet.open(root)
        pixels = shards.read_whole(row, row.maps)
    except DataError as error:
        assert str(error).startswith(f"{root / name}: ")
    else:
        assert (shards.manifest, shards.rows) == (opened.manifest, opened.rows)
        for kind, wanted in material(2).maps.items():
            np.testing.assert_array_equal(pixels[kind], wanted)
    finally:
        (root / name).write_bytes(whole)


FIGURES = st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 600)


@given(
    figures=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("shard", "first_row", "height", "width"), FIGURES)
    ),
    texts=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("split", "label", "id", "family"), st.text(max_size=6))
    ),
    maps=st.none() | st.lists(st.sampled_from(["albedo", "normal", "height", "ao", "x", ""]), max_size=4),
    cells=st.none() | st.binary(max_size=30) | st.binary(max_size=300).map(zlib.compress),
)
def test_a_row_with_arbitrary_numbers_is_valid_or_refused(
    root: Path,
    opened: ShardSet,
    figures: dict[str, int],
    texts: dict[str, str],
    maps: list[str] | None,
    cells: bytes | None,
) -> None:
    changes: dict[str, Any] = {**figures, **texts}
    changes |= {} if maps is None else {"maps": tuple(maps), "means": {}}
    changes |= {} if cells is None else {"cells": cells}
    row = replace(opened.rows[1], **changes)
    try:
        rows = read_as_index(root, opened, file_of(to_table([row])))
    except DataError:
        return
    assert rows == (row,), "accepted with other values than written"
    check_usable(root, opened, rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shard": 2}, "m1: got shard 2; expected 0..1"),
        ({"shard": -1}, "m1: got shard -1; expected 0..1"),
        ({"first_row": -1}, "m1: got first_row -1 with 1 tiles; expected tiles within the 5 rows"),
        ({"first_row": 5}, "m1: got first_row 5 with 1 tiles; expected tiles within the 5 rows"),
        ({"first_row": 2**62}, "m1: got first_row"),
        ({"height": 0}, "m1: got 0 x 200 pixels"),
        ({"height": 2**31 - 1, "width": 2**31 - 1}, "m1: got 2147483647 x 2147483647 pixels; expected sides"),
        ({"height": 60_000, "width": 60_000}, "m1: got first_row 4 with 55225 tiles; expected"),
        ({"split": "test"}, "m1: got the split 'test'; expected train or val"),
        ({"label": "gold"}, "m1: got the class 'gold'"),
        ({"maps": ("albedo", "secret"), "means": {}}, "m1: got the maps albedo, secret"),
        ({"maps": ("albedo", "albedo")}, "m1: got the maps albedo, albedo"),
        ({"class_pixels": (1, 2)}, "m1: got invalid class_pixels; expected 7 counts"),
        ({"class_pixels": (-1,) * 7}, "m1: got invalid class_pixels; expected 7 counts"),
        ({"class_pixels": (2**62,) * 7}, f"m1: got {7 * 2**62} class_pixels; expected at most"),
        ({"class_pixels": (None,) * 7}, "m1: got invalid class_pixels; expected 7 counts"),
        ({"means": {"albedo": (0.5,)}}, "m1: got invalid means of albedo"),
        ({"means": {"height": (float("nan"),)}}, "m1: got invalid means of height"),
        ({"means": {"ao": (0.5,)}}, "m1: got invalid means of ao"),
        ({"height_range": (0.0, float("inf"))}, "m1: got an invalid height_range"),
    ],
)
def test_an_invalid_row_is_refused_with_its_field(
    root: Path, opened: ShardSet, changes: dict[str, Any], words: str
) -> None:
    row = replace(opened.rows[1], **changes)
    with pytest.raises(DataError) as caught:
        read_as_index(root, opened, file_of(to_table([row])))
    assert str(caught.value).startswith(f"{root / opened.manifest.index.file}: {words}")


def repeated_text(opened: ShardSet) -> Any:
    table = pa.concat_tables([to_table(opened.rows[:1])] * 5000)
    texts = pa.chunked_array([pa.array(["x" * 100_000])] * table.num_rows)
    return table.set_column(SCHEMA.get_field_index("licence"), SCHEMA.field("licence"), texts)


def long_list(opened: ShardSet) -> Any:
    names = pa.DictionaryArray.from_arrays(np.zeros(20_000_000, np.int8), ["albedo"]).dictionary_decode()
    maps = pa.ListArray.from_arrays(pa.array([0, len(names)], pa.int32()), names)
    table = to_table(opened.rows[:1])
    return table.set_column(SCHEMA.get_field_index("maps"), SCHEMA.field("maps"), maps)


def many_rows(opened: ShardSet) -> Any:
    return pa.concat_tables([pa.concat_tables([to_table(opened.rows[:1])] * 1000).combine_chunks()] * 1000)


@pytest.mark.parametrize("bomb", [repeated_text, long_list, many_rows])
def test_a_small_index_that_unpacks_to_gigabytes_is_refused(
    root: Path, opened: ShardSet, bomb: Callable[[ShardSet], Any]
) -> None:
    content = file_of(bomb(opened))
    assert len(content) < 400_000
    pool, before = pa.proxy_memory_pool(pa.system_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(DataError, match="bytes that unpack to more than"):
            read_as_index(root, opened, content)
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < MOST_BYTES


def test_an_index_of_thousands_of_equal_rows_is_read(root: Path, opened: ShardSet) -> None:
    rows = tuple(replace(opened.rows[0], id=f"m{n}", family=f"m{n}", cells=b"") for n in range(5_000))
    assert read_as_index(root, opened, file_of(to_table(rows))) == rows


def test_packed_cells_are_inflated_only_to_their_expected_size(opened: ShardSet) -> None:
    row = replace(opened.rows[1], cells=zlib.compress(bytes(100 << 20)))
    with pytest.raises(DataError, match="m1: got damaged cells in the index; expected 56 bytes"):
        cells_of(row)
    with pytest.raises(DataError, match="m1: cells of the index are damaged"):
        cells_of(replace(row, cells=b"none"))


def test_a_map_that_is_missing_in_a_shard_is_an_error_with_its_name(root: Path, opened: ShardSet) -> None:
    row = replace(opened.rows[1], maps=("ao",), means={})
    shards = ShardSet(str(root), manifest=opened.manifest, rows=(row,))
    with pytest.raises(DataError, match=r"0001-00000\.parquet: ao: got no tile in row 4"):
        shards.read_whole(row, ["ao"])
    with pytest.raises(DataError, match="ao: got no tile in row 4"):
        shards.read_columns([row], [[0]], ["ao"])


@pytest.mark.parametrize("first_row", [5, 6, 700])
def test_rows_that_are_missing_in_a_shard_are_an_error(root: Path, opened: ShardSet, first_row: int) -> None:
    row = replace(opened.rows[1], first_row=first_row)
    with pytest.raises(DataError, match=r"0001-00000\.parquet: m1: albedo: damaged"):
        ShardSet(str(root), manifest=opened.manifest, rows=(row,)).read_whole(row, ["albedo"])


def test_a_shard_without_rows_is_an_error(root: Path, opened: ShardSet) -> None:
    file = root / opened.manifest.shards[1].file
    whole = file.read_bytes()
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    try:
        shards = ShardSet(str(root), manifest=opened.manifest, rows=opened.rows)
        with pytest.raises(
            DataError, match=r"0001-00001\.parquet: m2: albedo: damaged \(got row groups of \[0\] rows"
        ):
            shards.read_whole(opened.rows[2], ["albedo"])
    finally:
        file.write_bytes(whole)

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pbrlib import storage
from pbrlib.data.materials.material import Material
from pbrlib.data.shards.manifest import Manifest, load_manifest
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES, IGNORE
from tests.data.shards.materials import add_version, make_set, material, split_for


def ids(shards: ShardSet) -> list[str]:
    return [row.id for row in shards.rows]


def test_a_set_does_not_exist_before_its_manifest(tmp_path: Path) -> None:
    write_shard(tmp_path / shard_name(version=1, ordinal=0), [material(0)], split_for=split_for)
    with pytest.raises(DataError, match="no finished shard set"):
        ShardSet.open(tmp_path)


def test_pixel_columns_are_neither_compressed_nor_summarised(tmp_path: Path) -> None:
    path = tmp_path / "shards" / "one.parquet"
    info, _ = write_shard(path, [material(0)], split_for=split_for)
    file = pq.ParquetFile(path)
    column = file.metadata.row_group(0).column(file.schema_arrow.names.index("albedo"))
    assert column.compression == "UNCOMPRESSED"
    assert not column.has_dictionary_page
    assert column.statistics is None
    assert (info.file, info.rows, info.resolution) == ("shards/one.parquet", 4, 300)
    assert info.bytes == path.stat().st_size
    places = file.read(columns=["material", "ty", "tx"]).to_pylist()
    assert [tuple(place.values()) for place in places] == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]


def test_a_missing_map_of_a_material_is_null(tmp_path: Path) -> None:
    path = tmp_path / "shards" / "one.parquet"
    write_shard(path, [material(0), material(1, maps=("normal",))], split_for=split_for)
    nulls = pq.read_table(path)["albedo"].is_null().to_pylist()
    assert nulls == [False] * 4 + [True] * 4


def test_a_source_that_fails_leaves_no_shard(tmp_path: Path) -> None:
    def failing() -> Iterator[Material]:
        yield material(0)
        raise DataError("albedo.png: truncated")

    with pytest.raises(DataError, match="truncated"):
        write_shard(tmp_path / "shards" / "one.parquet", failing(), split_for=split_for)
    assert list((tmp_path / "shards").iterdir()) == []


def test_no_material_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got no material; expected at least one"):
        write_shard(tmp_path / "shards" / "one.parquet", [], split_for=split_for)


def test_a_full_disk_is_a_data_error_without_a_partial_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError, match=r"one\.parquet: cannot be written .*Free space"):
            write_shard(tmp_path / "shards" / "one.parquet", [material(0)], split_for=split_for)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "shards").iterdir()) == []


def test_the_manifest_counts_what_is_in_the_set(tmp_path: Path) -> None:
    labelled = material(0, label="metal")
    masked = material(1, size=(10, 20), maps=("normal", "mask"))
    masked.maps["mask"][...] = CLASSES.index("stone")
    masked.maps["mask"][:2] = IGNORE
    unknown = material(2, size=(10, 20), maps=("normal",), label=None)
    manifest = make_set(tmp_path, [labelled, masked], [unknown]).manifest
    assert manifest.sources == {"test": 3}
    assert sum(manifest.splits.values()) == 3
    assert manifest.maps == {"albedo": 1, "normal": 3, "height": 1, "mask": 1}
    assert manifest.sizes == {"10x20": 2, "300x280": 1}
    assert {name: n for name, n in manifest.class_pixels.items() if n} == {"metal": 300 * 280, "stone": 160}
    assert [info.rows for info in manifest.shards] == [5, 1]


def test_the_index_has_means_relative_to_the_maximum(tmp_path: Path) -> None:
    one = material(0, maps=("normal", "albedo", "height", "mask"))
    one.maps["albedo"][...] = (255, 0, 51)
    one.maps["height"][...] = 65535
    (row,) = make_set(tmp_path, [one]).rows
    assert row.means["albedo"] == pytest.approx((1.0, 0.0, 0.2))
    assert row.means["height"] == pytest.approx((1.0,))
    assert "mask" not in row.means


def test_appending_keeps_the_previous_version(tmp_path: Path) -> None:
    first = add_version(tmp_path, [[material(0), material(1)]])
    second = add_version(tmp_path, [[material(2)], [material(3)]], previous=first)
    shards = ShardSet.open(tmp_path)
    assert ids(shards) == ["m0", "m1", "m2", "m3"]
    assert [row.shard for row in shards.rows] == [0, 0, 1, 2]
    assert second.shards[:1] == first.shards
    assert second.fingerprint != first.fingerprint
    np.testing.assert_array_equal(
        shards.read_whole(shards.rows[3], ["albedo"])["albedo"], material(3).maps["albedo"]
    )
    kept = Manifest.model_validate_json((tmp_path / "manifest.v1.json").read_text())
    assert kept == first
    (tmp_path / "manifest.v1.json").replace(tmp_path / "manifest.json")
    assert ids(ShardSet.open(tmp_path)) == ["m0", "m1"]


def test_appending_does_not_change_splits(tmp_path: Path) -> None:
    first = add_version(tmp_path, [[material(n, size=(8, 8)) for n in range(6)]])
    before = {row.id: row.split for row in ShardSet.open(tmp_path).rows}
    add_version(tmp_path, [[material(n, size=(8, 8)) for n in range(6, 20)]], previous=first)
    after = {row.id: row.split for row in ShardSet.open(tmp_path).rows}
    assert {name: after[name] for name in before} == before
    assert set(before.values()) == {"train", "val"}


def test_an_id_cannot_be_in_a_set_twice(tmp_path: Path) -> None:
    first = add_version(tmp_path, [[material(0)]])
    with pytest.raises(DataError, match="got 1 materials that the set has already, such as m0"):
        add_version(tmp_path, [[material(0)]], previous=first)
    assert load_manifest(tmp_path) == first


def test_a_set_is_not_overwritten_or_appended_concurrently(tmp_path: Path) -> None:
    first = add_version(tmp_path, [[material(0)]])
    with pytest.raises(DataError, match="got a folder with a shard set"):
        add_version(tmp_path, [[material(1)]])
    add_version(tmp_path, [[material(1)]], previous=first)
    with pytest.raises(DataError, match="another run changed the manifest"):
        publish(tmp_path, shards=[], rows=[], previous=first)
    assert ids(ShardSet.open(tmp_path)) == ["m0", "m1"]


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_crash_while_publishing_keeps_the_previous_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    first = add_version(tmp_path, [[material(0)]])
    new = write_shard(tmp_path / shard_name(version=2, ordinal=0), [material(1)], split_for=split_for)
    really_write, done = storage.write_atomic, []

    def dying(location: Path, data: bytes | str) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(location)
        really_write(location, data)

    monkeypatch.setattr(storage, "write_atomic", dying)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path, shards=[new[0]], rows=[new[1]], previous=first)
    monkeypatch.undo()
    shards = ShardSet.open(tmp_path)
    assert shards.manifest == first
    shards.verify()
    add_version(tmp_path, [[material(1)]], previous=first)  # the same append, again
    assert ids(ShardSet.open(tmp_path)) == ["m0", "m1"]

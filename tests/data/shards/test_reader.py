from __future__ import annotations

import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run

import numpy as np
import pyarrow.parquet as pq
import pytest

from pbrlib.data.shards.codec import encode_tile
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.errors import DamageError, DataError
from pbrlib.maps import MAPS
from tests.damage import flip
from tests.data.shards.materials import make_set, material

SIZES = [(256, 256), (300, 520), (1, 700), (257, 31)]


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    make_set(root, *[[material(n, size=size, maps=MAPS)] for n, size in enumerate(SIZES[:3])], [TINY, LAST])
    return root


TINY = material(8, size=(5, 7))
LAST = material(3, size=SIZES[3], maps=MAPS, tileable=False)


@pytest.fixture
def root(shared_root: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shared_root, tmp_path / "set")


def offset_of(path: Path, *, column: str, row_group: int = 0) -> int:
    file = pq.ParquetFile(path)
    chunk = file.metadata.row_group(row_group).column(file.schema_arrow.names.index(column))
    return int(chunk.data_page_offset + chunk.total_compressed_size // 2)


def test_whole_maps_equal_the_written_ones(shared_root: Path) -> None:
    shards = ShardSet.open(shared_root)
    for row in shards.rows:
        size = (row.height, row.width)
        written = TINY if row.id == "m8" else material(int(row.id[1:]), size=size, maps=MAPS)
        read = shards.read_whole(row, row.maps)
        assert set(read) == set(written.maps)
        for name, pixels in written.maps.items():
            assert read[name].dtype == pixels.dtype
            np.testing.assert_array_equal(read[name], pixels)


def test_tiles_equal_the_written_ones(shared_root: Path) -> None:
    shards = ShardSet.open(shared_root)
    row, written = shards.rows[1], material(1, size=SIZES[1], maps=MAPS)
    tiles = shards.read_columns([row], [[5, 0, 4]], ["height", "ao"])
    for name in ("height", "ao"):
        pixels = written.maps[name]
        expected = [pixels[256:, 512:], pixels[:256, :256], pixels[256:, 256:512]]
        assert tiles[name].to_pylist() == [[encode_tile(tile) for tile in expected]]


def test_a_crop_reads_only_the_row_groups_it_touches(root: Path) -> None:
    shards = ShardSet.open(root)
    path = root / shards.manifest.shards[1].file
    flip(path, offset_of(path, column="albedo", row_group=1))
    assert shards.read_crop(shards.rows[1], Window(0, 0, 10, 10), ["albedo"])["albedo"].shape == (10, 10, 3)
    with pytest.raises(DataError):
        shards.read_whole(shards.rows[1], ["albedo"])


@pytest.mark.parametrize("column", ["albedo", "height"])
def test_a_flipped_byte_is_detected_with_its_material_and_map(root: Path, column: str) -> None:
    shards = ShardSet.open(root)
    path = root / shards.manifest.shards[1].file
    flip(path, offset_of(path, column=column))
    with pytest.raises(DataError) as caught:
        shards.read_whole(shards.rows[1], ["ao", column, "mask"])
    message = str(caught.value)
    assert message.startswith(f"{path}: m1: {column}: damaged (")
    assert message.endswith("Copy the file again from where the set came from, or prepare the set again.")
    assert shards.read_whole(shards.rows[1], ["ao"])["ao"].shape == (300, 520, 1)
    with pytest.raises(DataError, match=rf"damaged \(SHA-256\): {shards.manifest.shards[1].file}\."):
        shards.verify()


def test_every_flipped_byte_is_detected(root: Path) -> None:
    shards = ShardSet.open(root)
    path = root / shards.manifest.shards[3].file
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [0, len(whole) - 1, len(whole) - 6, *rng.integers(0, len(whole), 40).tolist()]:
        path.write_bytes(whole)
        flip(path, position)
        damaged = ShardSet.open(root)
        with pytest.raises(DataError):
            damaged.verify()
        for row in damaged.rows[3:]:
            written = TINY if row.id == "m8" else LAST
            try:
                read = damaged.read_whole(row, row.maps)
            except DataError:
                continue
            for name, pixels in written.maps.items():
                np.testing.assert_array_equal(read[name], pixels)


def test_a_damaged_footer_is_an_error_with_the_shard(root: Path) -> None:
    path = root / ShardSet.open(root).manifest.shards[0].file
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    name = whole.index(b"height", footer)
    for position in (footer, len(whole) - 8, len(whole) - 2, name, name + 5):
        for mask in (0x10, 0xFF):
            data = bytearray(whole)
            data[position] ^= mask
            path.write_bytes(data)
            shards = ShardSet.open(root)
            with pytest.raises(DataError) as caught:
                shards.read_whole(shards.rows[0], ["ao", "height"])
            assert str(caught.value).startswith(str(path))


def test_a_flipped_bit_of_a_footer_never_returns_tiles_of_another_material(tmp_path: Path) -> None:
    materials = [material(number, size=(12, 10)) for number in range(5)]
    shards = make_set(tmp_path, materials)
    path = tmp_path / shards.manifest.shards[0].file
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    groups = pq.read_metadata(path).num_row_groups
    assert groups == 3
    # Bytes that may encode the number of rows of a group (1 or 2 in Thrift), and some others.
    small = [position for position in range(footer, len(whole)) if whole[position] in (2, 4)]
    for position in (*small[:: max(1, len(small) // 100)], *range(footer, len(whole), 97)):
        for mask in (0x02, 0x04, 0x40):
            data = bytearray(whole)
            data[position] ^= mask
            path.write_bytes(data)
            damaged = ShardSet.open(tmp_path)
            for row, written in zip(damaged.rows, materials, strict=True):
                try:
                    read = damaged.read_whole(row, ["albedo"])
                except DamageError:
                    continue
                np.testing.assert_array_equal(read["albedo"], written.maps["albedo"])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_shard_with_other_row_groups_is_damaged(tmp_path: Path, rows: int) -> None:
    materials = [material(number, size=(12, 10)) for number in range(3)]
    shards = make_set(tmp_path, materials)
    path = tmp_path / shards.manifest.shards[0].file
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema, compression="NONE") as writer:
        for first in range(0, 3, max(rows, 1)):
            writer.write_table(table.slice(first, rows))
    damaged = ShardSet.open(tmp_path, on_bad_sample="skip")
    if rows == 0:
        with pytest.raises(DamageError, match="row groups"):
            damaged.read_whole(damaged.rows[0], ["albedo"])
        return
    for row, written in zip(damaged.rows, materials, strict=True):
        np.testing.assert_array_equal(damaged.read_whole(row, ["albedo"])["albedo"], written.maps["albedo"])


def test_a_truncated_shard_is_detected_on_opening(root: Path) -> None:
    path = sorted((root / "shards").iterdir())[2]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=f"{path.name}: got {size - 1000} bytes; expected {size}"):
        ShardSet.open(root)


def test_a_missing_file_of_a_set_is_an_error_with_its_name(root: Path) -> None:
    manifest = ShardSet.open(root).manifest
    index = root / manifest.index.file
    index.rename(index.with_suffix(".away"))
    with pytest.raises(DataError, match=f"{index.name}: missing"):
        ShardSet.open(root)
    index.with_suffix(".away").rename(index)
    (root / manifest.shards[0].file).unlink()
    with pytest.raises(DataError, match=f"{manifest.shards[0].file}: missing"):
        ShardSet.open(root)


def test_a_changed_index_is_refused(root: Path) -> None:
    flip(root / "index-0001.parquet", 100)
    with pytest.raises(DataError, match=r"index-0001\.parquet: got another SHA-256 than in the manifest"):
        ShardSet.open(root)


def test_a_missing_map_of_a_material_is_an_error_with_its_name(shared_root: Path) -> None:
    shards = ShardSet.open(shared_root)
    with pytest.raises(DataError, match=r"m8: no map ao, only albedo, normal, height\."):
        shards.read_whole(shards.rows[3], ["ao"])


def test_a_pickled_set_returns_the_same_maps(shared_root: Path) -> None:
    shards = ShardSet.open(shared_root)
    shards.read_whole(shards.rows[0], ["ao"])
    copy = pickle.loads(pickle.dumps(shards))
    assert (copy.rows, copy.fingerprint) == (shards.rows, shards.fingerprint)
    np.testing.assert_array_equal(
        copy.read_whole(copy.rows[0], ["ao"])["ao"], shards.read_whole(shards.rows[0], ["ao"])["ao"]
    )


def test_threads_can_share_a_set(shared_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbrlib.data.shards.files._NUM_OPEN_FILES", 1)  # files are closed while threads read
    shards = ShardSet.open(shared_root)
    expected = [shards.read_whole(row, ["normal", "height"]) for row in shards.rows]

    def is_read_correctly(number: int) -> bool:
        row, written = shards.rows[number % 5], expected[number % 5]
        read = shards.read_whole(row, ["normal", "height"])
        return all(np.array_equal(read[name], written[name]) for name in written)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_read_correctly, range(120)))


def test_the_reader_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, pbrlib.data.draws.fetch, pbrlib.data.shards.reader, pbrlib.data.shards.writer\n"
        "sys.exit(bool({'torch', 'ray', 'boto3'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0

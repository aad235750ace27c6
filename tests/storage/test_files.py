from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.errors import DataError
from pbrlib.storage import files as storage
from pbrlib.storage import s3client
from tests.data.shards.materials import material


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "folder")
    bucket: str = request.getfixturevalue("bucket")
    return f"{bucket}/some/folder"


def test_what_is_written_can_be_read(folder: str) -> None:
    place = storage.join(folder, "sub", "file.bin")
    assert not storage.exists(place)
    storage.write_bytes_atomic(place, b"first")
    storage.write_bytes_atomic(place, b"0123456789")
    assert storage.exists(place)
    assert storage.size(place) == 10
    assert storage.read_bytes(place) == b"0123456789"
    assert storage.read_range(place, start=3, length=4) == b"3456"
    assert storage.read_range(place, start=8, length=40) == b"89"
    assert storage.read_range(place, start=0, length=0) == b""
    assert storage.sha256(place) == "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"


def test_listing_names_the_files_of_a_folder_and_not_those_below(folder: str) -> None:
    assert storage.list_files(folder) == {}
    for name, length in (("b", 2), ("a", 1), ("below/c", 3)):
        storage.write_bytes_atomic(storage.join(folder, name), b"x" * length)
    assert list(storage.list_files(folder).items()) == [("a", 1), ("b", 2)]


def test_a_missing_file_is_not_found(folder: str) -> None:
    place = storage.join(folder, "none")
    for read in (storage.read_bytes, storage.size, storage.open_input):
        with pytest.raises(FileNotFoundError):
            read(place)


def test_a_file_opens_for_arrow(folder: str) -> None:
    place = storage.join(folder, "file.bin")
    storage.write_bytes_atomic(place, bytes(range(100)))
    file = storage.open_input(place)
    assert file.size() == 100
    file.seek(-10, 2)
    assert file.read() == bytes(range(90, 100))
    assert file.read_at(5, 20) == bytes(range(20, 25))


def test_a_failed_write_leaves_what_was_there(folder: str) -> None:
    place = storage.join(folder, "file.bin")
    storage.write_bytes_atomic(place, b"old")
    with pytest.raises(KeyError), storage.staged(place) as partial:
        partial.write_bytes(b"half of the n")
        raise KeyError
    assert storage.read_bytes(place) == b"old"
    assert list(storage.list_files(folder)) == ["file.bin"]


def test_a_place_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file/below: cannot be written"):
        storage.write_bytes_atomic(tmp_path / "file" / "below", b"")


def test_written_files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    storage.write_bytes_atomic(tmp_path / "written", b"")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_address_without_bucket_says_how_to_write_one() -> None:
    with pytest.raises(DataError, match="s3:///folder: names no bucket"):
        storage.read_bytes("s3:///folder")


def test_missing_credentials_are_a_data_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boto3.session.Session.get_credentials", lambda session: None)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    s3client._client_for.cache_clear()
    try:
        with pytest.raises(DataError, match=r"Unable to locate credentials.*Check your AWS credentials"):
            storage.read_bytes(f"{bucket}/file")
    finally:
        s3client._client_for.cache_clear()


def test_a_shard_set_lives_on_s3_as_on_disk(bucket: str) -> None:
    root = f"{bucket}/sets/one"
    with pytest.raises(DataError, match=r"no manifest\.json"):
        ShardSet.open(root)
    one = material(0, size=(600, 600))
    info, rows = write_shard(
        storage.join(root, shard_name(version=1, ordinal=0)), [one], split_for=lambda _: "train"
    )
    manifest = publish(root, shards=[info], rows=[rows], previous=None)
    shards = ShardSet.open(root)
    assert shards.manifest == manifest
    crop = shards.read_crop(shards.rows[0], Window(200, 300, 256, 256), ["albedo", "height"])
    for name, pixels in crop.items():
        np.testing.assert_array_equal(pixels, one.maps[name][200:456, 300:556])
    shards.verify()


def test_a_crop_on_s3_asks_for_a_part_of_the_shard(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = f"{bucket}/sets/two"
    path = storage.join(root, shard_name(version=1, ordinal=0))
    info, rows = write_shard(path, [material(0, size=(1024, 1024))], split_for=lambda _: "train")
    publish(root, shards=[info], rows=[rows], previous=None)
    shards = ShardSet.open(root)
    crop = (shards.rows[0], Window(0, 0, 200, 200), ["albedo"])
    shards.read_crop(*crop)  # opens the file
    asked: list[int] = []
    really_read = storage.read_range

    def counting(location: storage.Location, *, start: int, length: int) -> bytes:
        asked.append(length)
        return really_read(location, start=start, length=length)

    monkeypatch.setattr(storage, "read_range", counting)
    shards.read_crop(*crop)
    assert len(asked) == 1
    assert sum(asked) < info.bytes / 10

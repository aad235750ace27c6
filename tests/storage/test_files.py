from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pbrlib import storage
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.errors import DataError
from pbrlib.storage import s3client
from tests.data.shards.materials import material
from tests.s3_server import BROKEN, FaultyServer


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "local":
        return tmp_path / "folder"
    return storage.to_path(f"{request.getfixturevalue('bucket')}/some/folder")


def test_written_files_can_be_read(folder: Path) -> None:
    place = folder / "sub" / "file.bin"
    assert not place.exists()
    storage.write_atomic(place, b"first")
    storage.write_atomic(place, b"0123456789")
    assert place.exists()
    assert place.stat().st_size == 10
    assert place.read_bytes() == b"0123456789"
    assert storage.sha256(place) == "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"


def test_file_sizes_lists_only_files_directly_in_the_folder(folder: Path) -> None:
    assert storage.file_sizes(folder) == {}
    for name, length in (("b", 2), ("a", 1), ("below/c", 3)):
        storage.write_atomic(folder / name, b"x" * length)
    assert list(storage.file_sizes(folder).items()) == [("a", 1), ("b", 2)]


def test_a_missing_file_raises_file_not_found(folder: Path) -> None:
    place = folder / "none"
    for read in (
        lambda path: path.read_bytes(),
        lambda path: path.stat(),
        storage.sha256,
        storage.open_arrow,
    ):
        with pytest.raises(FileNotFoundError):
            read(place)


def test_a_file_can_be_opened_by_arrow(folder: Path) -> None:
    place = folder / "file.bin"
    storage.write_atomic(place, bytes(range(100)))
    file = storage.open_arrow(place)
    assert file.size() == 100
    file.seek(-10, 2)
    assert file.read() == bytes(range(90, 100))
    assert file.read_at(5, 20) == bytes(range(20, 25))
    assert file.read_at(40, 95) == bytes(range(95, 100))
    assert file.read_at(0, 3) == b""


def test_a_failed_write_keeps_the_previous_file(folder: Path) -> None:
    place = folder / "file.bin"
    storage.write_atomic(place, b"old")
    with pytest.raises(KeyError), storage.staged(place) as partial:
        partial.write_bytes(b"half of the n")
        raise KeyError
    assert place.read_bytes() == b"old"
    assert list(storage.file_sizes(folder)) == ["file.bin"]


def test_a_path_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file/below: cannot be written"):
        storage.write_atomic(tmp_path / "file" / "below", b"")


def test_written_files_have_default_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    storage.write_atomic(tmp_path / "written", b"")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_address_without_a_bucket_is_an_error_with_the_expected_form() -> None:
    with pytest.raises(DataError, match="s3:///folder: got no bucket"):
        storage.to_path("s3:///folder")


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
            storage.to_path(f"{bucket}/file").read_bytes()
    finally:
        s3client._client_for.cache_clear()


def test_a_shard_set_on_s3_equals_one_on_disk(bucket: str) -> None:
    root = storage.to_path(f"{bucket}/sets/one")
    with pytest.raises(DataError, match="no such folder"):
        ShardSet.open(root)
    one = material(0, size=(600, 600))
    info, rows = write_shard(root / shard_name(version=1, ordinal=0), [one], split_for=lambda _: "train")
    manifest = publish(root, shards=[info], rows=[rows], previous=None)
    shards = ShardSet.open(root)
    assert shards.manifest == manifest
    crop = shards.read_crop(shards.rows[0], Window(200, 300, 256, 256), ["albedo", "height"])
    for name, pixels in crop.items():
        np.testing.assert_array_equal(pixels, one.maps[name][200:456, 300:556])
    shards.verify()


def test_a_crop_on_s3_requests_a_part_of_the_shard(bucket: str, s3: FaultyServer) -> None:
    root = storage.to_path(f"{bucket}/sets/two")
    path = root / shard_name(version=1, ordinal=0)
    info, rows = write_shard(path, [material(0, size=(1024, 1024))], split_for=lambda _: "train")
    publish(root, shards=[info], rows=[rows], previous=None)
    shards = ShardSet.open(root)
    crop = (shards.rows[0], Window(0, 0, 200, 200), ["albedo"])
    shards.read_crop(*crop)  # opens the file
    s3.asked.clear()
    shards.read_crop(*crop)
    ((method, _, asked),) = s3.asked
    first, last = map(int, asked.removeprefix("bytes=").split("-"))
    assert method == "GET"
    assert last - first < info.bytes / 10


def test_only_own_unfinished_folders_are_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    other = folder.with_name("other")
    other.mkdir()
    left, others = (storage.make_unfinished(one, prefix=".new-") for one in (folder, other))
    (left / "file").write_text("half")
    storage.remove_unfinished(folder, prefix=".new-")
    assert not left.exists()
    assert others.is_dir()
    assert list(folder.iterdir()) == []


def test_a_finished_folder_replaces_another_completely(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for put in (storage.move_folder, storage.replace_folder):
        for content in ("one", "two"):
            new = storage.make_unfinished(folder, prefix=".new-")
            (new / "below").mkdir()
            for name in ("last", f"below/{content}"):
                (new / name).write_text(content)
            put(new, folder / "model", last="last")
            assert not new.exists()
            found = [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]
            assert sorted(found) == [f"model/below/{content}", "model/last"]


def test_an_incomplete_upload_of_a_folder_is_removed(
    bucket: str, s3: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    target = storage.to_path(f"{bucket}/runs/model")
    for name in ("first", "last"):
        storage.write_atomic(tmp_path / "new" / name, name)
    with s3.failing("PUT", "model/last", BROKEN), pytest.raises(DataError, match="model/last"):
        storage.replace_folder(tmp_path / "new", target, last="last")
    assert list(storage.file_sizes(target)) == ["first"]
    storage.recover_folder(target, last="last")
    assert not target.exists()
    storage.replace_folder(tmp_path / "new", target, last="last")
    storage.recover_folder(target, last="last")
    assert list(storage.file_sizes(target)) == ["first", "last"]
    assert storage.file_sizes(target.parent) == {}, "the marker object was removed"


def test_provisional_files_are_removed_from_a_disk_after_a_failure(tmp_path: Path) -> None:
    done, failed = tmp_path / "done", tmp_path / "failed"
    with storage.provisional(tmp_path) as files:
        files.add(done)
        done.touch()
        files.clear()
    with pytest.raises(KeyError), storage.provisional(tmp_path) as files:
        files.add(failed)
        failed.touch()
        killed = storage.staged(tmp_path / "killed")
        partial = killed.__enter__()
        assert partial.is_file()
        raise KeyError
    assert list(tmp_path.iterdir()) == [done]


def test_provisional_files_on_s3_are_kept_after_a_failure(bucket: str) -> None:
    file = storage.to_path(f"{bucket}/set/shard")
    with pytest.raises(KeyError), storage.provisional(file.parent) as files:
        files.add(file)
        file.write_text("")
        raise KeyError
    assert file.is_file()

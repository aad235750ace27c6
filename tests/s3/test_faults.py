"""A bad connection has no effect on reading and writing or causes a clear error; no object is incomplete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch

from pbrlib import storage
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.errors import DamageError, DataError
from pbrlib.storage import s3client, s3reading
from pbrlib.train.checkpoint.players import save
from pbrlib.train.checkpoint.state import STATE, State, checkpoints
from tests.checkpoints import DECLARED, learned
from tests.data.shards.materials import material
from tests.s3_server import (
    BROKEN,
    BUSY,
    Answer,
    App,
    FaultyServer,
    cut_after,
    hanging_up,
    silent_for,
    trickling,
)

CONTENT = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two seconds of silence are too long, and between attempts there is next to no pause."""
    monkeypatch.setattr(s3client, "READ_TIMEOUT_S", 2.0)
    monkeypatch.setattr("random.uniform", lambda low, high: 0.01)
    s3client._client_for.cache_clear()
    yield
    s3client._client_for.cache_clear()


@pytest.fixture
def object_(bucket: str) -> Path:
    address = storage.to_path(f"{bucket}/folder/object.bin")
    storage.write_atomic(address, CONTENT)
    return address


@pytest.mark.parametrize(
    "answer",
    [BROKEN, BUSY, cut_after(300_000), cut_after(0), silent_for(3.0)],
    ids=["500", "503", "cut in the middle", "cut at once", "timeout"],
)
@pytest.mark.parametrize("way", ["whole", "file"])
def test_what_fails_a_few_times_is_read_whole(
    s3: FaultyServer, object_: Path, answer: Answer, way: str
) -> None:
    with s3.failing("GET", "object.bin", answer, times=3) as fault:
        if way == "whole":
            assert object_.read_bytes() == CONTENT
        else:
            with storage.fetched(object_) as file:
                assert file.read_bytes() == CONTENT
    assert fault.met == 3


def test_a_slow_answer_is_waited_for(s3: FaultyServer, object_: Path) -> None:
    with s3.failing("GET", "object.bin", trickling(8, pause_s=0.2), times=1) as fault:
        assert object_.read_bytes() == CONTENT
    assert fault.met == 1, "as long as something comes it is no timeout"


def test_reading_continues_where_it_was_cut(s3: FaultyServer, object_: Path) -> None:
    s3.asked.clear()
    with s3.failing("GET", "object.bin", cut_after(300_000), times=1):
        assert s3reading.read(str(object_), start=50, length=500_000) == CONTENT[50:500_050]
    ranges = [range_ for _, _, range_ in s3.asked]
    assert ranges == ["bytes=50-500049", "bytes=300050-500049"]


@pytest.mark.parametrize("way", ["whole", "file"])
def test_two_objects_are_never_mixed(s3: FaultyServer, object_: Path, way: str) -> None:
    other = CONTENT[::-1]

    def cut_and_replace(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        answer = cut_after(300_000)(app, environ, start)
        storage.write_atomic(object_, other)
        return answer

    with s3.failing("GET", "object.bin", cut_and_replace, times=1):
        if way == "whole":
            assert object_.read_bytes() == other
        else:
            with storage.fetched(object_) as file:
                assert file.read_bytes() == other


def test_a_minute_without_s3_costs_the_time_and_is_reported(
    s3: FaultyServer, object_: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    monkeypatch.setattr("time.sleep", slept.append)

    def away(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return BUSY(app, environ, start) if sum(slept) < 60 else app(environ, start)

    with s3.failing("GET", "object.bin", away):
        assert object_.read_bytes() == CONTENT
    slept.clear()
    with s3.failing("PUT", "object.bin", away):
        storage.write_atomic(object_, CONTENT)
    assert 60 <= sum(slept) < 75
    assert "PutObject: SlowDown; attempt 7 of 12, the next in 10 s" in caplog.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (BROKEN, "InternalError"),
        (BUSY, "SlowDown"),
        (cut_after(300_000), "the response ended after"),
        (silent_for(3.0), "timeout"),
    ],
    ids=["500", "503", "cut in the middle", "timeout"],
)
def test_what_keeps_failing_is_an_error_that_names_the_place(
    s3: FaultyServer, object_: Path, answer: Answer, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with s3.failing("GET", "object.bin", answer):
        with pytest.raises(DataError, match=f"{object_}: .*{said}"):
            object_.read_bytes()
        with pytest.raises(DataError, match=f"{object_}: "), storage.fetched(object_):
            pass


def test_a_server_that_is_away_is_an_error_without_the_credentials_of_its_address(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hidden@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with pytest.raises(DataError, match="connect") as caught:
        storage.to_path(f"{bucket}/file").read_bytes()
    assert "hidden" not in str(caught.value)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    for use in (storage.to_path, ShardSet.open, s3reading.read):
        with pytest.raises(DataError, match="got an address with credentials") as caught:
            use("s3://AKIA:hidden@bucket/folder")
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [BROKEN, BUSY, silent_for(3.0), hanging_up], ids=["500", "503", "timeout", "cut"]
)
def test_what_fails_a_few_times_is_written(s3: FaultyServer, object_: Path, answer: Answer) -> None:
    new = CONTENT[::-1] * 2
    with s3.failing("PUT", "object.bin", answer, times=3) as fault:
        storage.write_atomic(object_, new)
    assert fault.met == 3
    assert object_.read_bytes() == new


def test_a_large_file_that_cannot_be_sent_leaves_nothing(
    s3: FaultyServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    large = tmp_path / "large"
    large.write_bytes(bytes(17 * 2**20))
    address = storage.to_path(f"{bucket}/large")
    with (
        s3.failing("PUT", "partNumber=2", BROKEN) as fault,
        pytest.raises(DataError, match=f"{address}: S3 cannot be used: .*InternalError"),
    ):
        storage.put_file(large, address)
    assert fault.met == 2
    assert not address.exists()
    uploads = boto3.client("s3").list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))
    assert "Uploads" not in uploads
    with s3.failing("PUT", "partNumber=2", BROKEN, times=1):
        storage.put_file(large, address)
    assert address.stat().st_size == large.stat().st_size


def test_a_bucket_that_does_not_exist_is_reported(bucket: str) -> None:
    with pytest.raises(DataError, match=r"s3://nowhere-at-all/file: no such bucket"):
        storage.write_atomic(storage.to_path("s3://nowhere-at-all/file"), b"")
    assert not storage.to_path("s3://nowhere-at-all/folder").is_dir()


def checkpoint(folder: Path) -> Path:
    network = torch.nn.Linear(2, 2)
    state = State("A1", "print", 4, 8, {}, DECLARED)
    save(folder, state=state, learned=learned(network, torch.optim.AdamW(network.parameters())))
    return folder


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "state.json"])
def test_a_checkpoint_that_cannot_be_sent_whole_is_none(
    s3: FaultyServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    folder = storage.to_path(f"{bucket}/runs/albedo/A1-0")
    target = folder / "checkpoint_00000004"
    with s3.failing("PUT", file, BROKEN), pytest.raises(DataError, match=file):
        storage.move_folder(checkpoint(tmp_path / "one"), target, last=STATE)
    assert checkpoints(folder) == []
    storage.move_folder(checkpoint(tmp_path / "two"), target, last=STATE)
    assert checkpoints(folder) == [target]
    with s3.failing("PUT", file, BROKEN), pytest.raises(DataError, match=file):
        storage.move_folder(checkpoint(tmp_path / "three"), target, last=STATE)
    assert checkpoints(folder) == [], "neither the old one nor a mixture"


def test_a_checkpoint_that_is_removed_ceases_to_be_one_first(
    s3: FaultyServer, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    folder = storage.to_path(f"{bucket}/runs/albedo/A1-0")
    target = folder / "checkpoint_00000004"
    storage.move_folder(checkpoint(tmp_path / "one"), target, last=STATE)
    with s3.failing("DELETE", "model.safetensors", BROKEN), pytest.raises(DataError):
        storage.remove_folder(target, first=STATE)
    assert checkpoints(folder) == []


@pytest.mark.parametrize("file", ["shards/", "index", "manifest.json"])
def test_a_version_of_a_set_that_cannot_be_sent_whole_is_none(
    s3: FaultyServer, bucket: str, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    root = storage.to_path(f"{bucket}/set")

    def add(version: int, previous: Any) -> None:
        path = root / shard_name(version=version, ordinal=0)
        info, rows = write_shard(path, [material(version)], split_for=lambda _: "train")
        publish(root, shards=[info], rows=[rows], previous=previous)

    with s3.failing("PUT", file, BROKEN) as fault, pytest.raises(DataError):
        add(1, None)
    assert fault.met
    absent = "no such folder" if file == "shards/" else r"no manifest\.json"
    with pytest.raises(DataError, match=absent):
        ShardSet.open(root)
    add(1, None)
    before = ShardSet.open(root)
    with s3.failing("PUT", file, BROKEN), pytest.raises(DataError):
        add(2, before.manifest)
    after = ShardSet.open(root)
    assert after.fingerprint == before.fingerprint
    after.verify()


def test_a_shard_that_s3_does_not_give_now_is_no_bad_sample(
    s3: FaultyServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    root = storage.to_path(f"{bucket}/set")
    one = material(1, size=(64, 64))
    info, rows = write_shard(
        root / shard_name(version=1, ordinal=0), [one], split_for=lambda material: "train"
    )
    publish(root, shards=[info], rows=[rows], previous=None)
    shards = ShardSet.open(root, on_bad_sample="skip")
    for answer in (BROKEN, cut_after(10), hanging_up):
        with s3.failing("GET", info.file, answer), pytest.raises(DataError) as caught:
            shards.read_columns(shards.rows, [[0]], ["albedo"])
        assert not isinstance(caught.value, DamageError)
    assert shards.read_columns(shards.rows, [[0]], ["albedo"])["albedo"][0].as_py(), (
        "and nothing is kept of it"
    )
    storage.write_atomic(root / info.file, bytes(info.bytes))
    with pytest.raises(DamageError, match=info.file):
        ShardSet.open(root, on_bad_sample="skip").read_columns(shards.rows, [[0]], ["albedo"])

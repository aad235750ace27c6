"""Tests of the lease on S3: renewal, expiry and takeover."""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest

from pbrlib import storage
from pbrlib.errors import ConfigError, DataError
from pbrlib.storage import lease, s3reading, s3writing
from tests.s3_server import BROKEN, FaultyServer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use short times; the server counts in seconds."""
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    monkeypatch.setattr(lease, "RENEW_S", 0.5)


def left_behind(address: str) -> None:
    """Write the lease of a killed command."""
    s3writing.write(address, json.dumps({"owner": "process 7 on lost", "token": "x"}).encode())


def test_a_second_writer_is_refused_while_the_first_renews_its_lease(bucket: str) -> None:
    run = storage.to_path(f"{bucket}/runs/albedo")
    with storage.sole_writer(run, option="--runs"):
        with (
            pytest.raises(ConfigError, match=r"process \d+ on .* is writing there.*another --runs"),
            storage.sole_writer(run, option="--runs"),
        ):
            pass
        time.sleep(lease.LEASE_S + 1.5)
        assert s3reading.read_dated(f"{run}/writer.lock") is not None
    assert s3reading.read_dated(f"{run}/writer.lock") is None
    with storage.sole_writer(run, option="--runs"):
        pass


def test_the_lease_of_a_dead_command_is_taken_once_it_has_expired(bucket: str) -> None:
    run = storage.to_path(f"{bucket}/runs/albedo")
    left_behind(f"{run}/writer.lock")
    began = time.monotonic()
    with storage.sole_writer(run, option="--runs"):
        assert time.monotonic() - began > lease.LEASE_S - 1.5
        (content, _, _) = s3reading.read_dated(f"{run}/writer.lock") or (b"", "", 0)
        assert json.loads(content)["owner"] != "process 7 on lost"


def test_a_lease_in_a_missing_bucket_is_an_error(bucket: str) -> None:
    with (
        pytest.raises(DataError, match=r"s3://nowhere-at-all/runs/writer.lock: no such bucket"),
        storage.sole_writer(storage.to_path("s3://nowhere-at-all/runs"), option="--runs"),
    ):
        pass


def test_attempts_to_take_a_refused_lease_are_limited(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_ATTEMPTS", 3)
    asked: list[str | None] = []
    monkeypatch.setattr(s3writing, "write_if", lambda address, content, *, etag: asked.append(etag))
    with (
        pytest.raises(DataError, match="has refused 3 puts of the lease, although no process holds it"),
        storage.sole_writer(storage.to_path(f"{bucket}/runs"), option="--runs"),
    ):
        pass
    assert asked == [None] * 3


def test_only_one_of_two_processes_takes_an_expired_lease(bucket: str) -> None:
    address = f"{bucket}/runs/writer.lock"
    left_behind(address)
    (_, etag, _) = s3reading.read_dated(address) or (b"", "", 0)
    won: list[str | None] = []
    threads = [
        threading.Thread(target=lambda name=name: won.append(s3writing.write_if(address, name, etag=etag)))
        for name in (b"first", b"second")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one is None for one in won) == [False, True]


@pytest.mark.parametrize(
    "before", [signal.default_int_handler, signal.SIG_IGN], ids=["", "in the background"]
)
def test_a_writer_whose_lease_was_taken_is_interrupted_with_an_error(bucket: str, before: Any) -> None:
    signal.signal(signal.SIGINT, before)
    run = storage.to_path(f"{bucket}/runs/albedo")
    with (
        pytest.raises(DataError, match="another command has taken the lease"),
        storage.sole_writer(run, option="--runs"),
    ):
        left_behind(f"{run}/writer.lock")
        time.sleep(10)
    (content, _, _) = s3reading.read_dated(f"{run}/writer.lock") or (b"", "", 0)
    assert json.loads(content)["owner"] == "process 7 on lost"


def test_a_lease_taken_by_another_process_is_not_released(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 60.0)  # as of a machine that stood still and has noticed nothing
    run = storage.to_path(f"{bucket}/runs/albedo")
    with storage.sole_writer(run, option="--runs"):
        left_behind(f"{run}/writer.lock")
    assert s3reading.read_dated(f"{run}/writer.lock") is not None


def test_the_error_of_a_writer_is_raised_although_the_lease_cannot_be_released(
    bucket: str, s3: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with (
        pytest.raises(ValueError, match="a mistake"),
        ExitStack() as faults,
        storage.sole_writer(storage.to_path(f"{bucket}/runs/height"), option="--runs"),
    ):
        fault = faults.enter_context(s3.failing("GET", "writer.lock", BROKEN))
        raise ValueError("a mistake")
    assert fault.met


def test_a_lease_survives_an_outage_during_renewal(
    bucket: str,
    s3: FaultyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    run = storage.to_path(f"{bucket}/runs/albedo")
    with storage.sole_writer(run, option="--runs"):
        with s3.failing("PUT", "writer.lock", BROKEN) as fault:
            time.sleep(2)
        assert fault.met > 1
        time.sleep(1)


def test_a_put_with_a_lost_response_takes_the_lease(bucket: str) -> None:
    mine = lease._Lease(f"{bucket}/writer.lock", owner="me")
    assert mine._put(None)
    assert mine._put(None)  # as a client that asks again: now something is there, and it is ours

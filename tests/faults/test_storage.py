"""The place of a run is full, away, or somebody else's."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
import pytest

from pbrlib.data.storage import put_file
from tests.conftest import S3_CREDENTIALS
from tests.faults.conftest import SEGMENT, STEPS, Begin
from tests.faults.test_processes import ends_as_if_undisturbed
from tests.faults.training import Outcome, Training
from tests.s3_server import FaultyServer, refusing, s3_server

pytestmark = pytest.mark.slow

OUTAGE_S = 60
BUCKET = "s3://pbr-faults"
AWAY = refusing("503 Service Unavailable", "ServiceUnavailable")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB; mounting one takes rights that not everybody has."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file: Path) -> None:
    """Until nothing more can be written."""
    with file.open("wb", buffering=0) as full:
        for size in (2**20, 2**12, 1):
            try:
                while full.write(bytes(size)):
                    pass
            except OSError:
                continue


def test_a_full_disk_ends_the_command_with_a_message_and_the_same_command_resumes(
    small_disk: Path, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path, runs=str(small_disk / "runs"))
    process = training.start()
    training.wait_for_step(2 * SEGMENT + 1)
    began = time.monotonic()
    fill(small_disk / "full")
    assert process.wait(timeout=120) == 2, training.said
    print(f"a full disk ended the command after {time.monotonic() - began:.0f} s")
    last = training.said.strip().splitlines()[-1]
    print(last)
    assert last.startswith("pbr: ") and "No space left on device" in last and str(small_disk) in last
    assert "Traceback" not in training.said
    (small_disk / "full").unlink()
    ends_as_if_undisturbed(training, training.start(), undisturbed, fault="disk full")


@contextmanager
def outage(server: FaultyServer, *methods: str, key: str, seconds: float) -> Iterator[list[float]]:
    """S3 refuses such requests for a while from the first one on; gives when it began, once it has."""
    began: list[float] = []
    ended = threading.Event()

    def watch(faults: ExitStack) -> None:
        while not any(fault.met for fault in met):
            if ended.wait(0.05):
                return
        began.append(time.monotonic())
        ended.wait(seconds)
        faults.close()

    with ExitStack() as faults:
        met = [faults.enter_context(server.failing(method, key, AWAY)) for method in methods]
        thread = threading.Thread(target=watch, args=(faults,))
        thread.start()
        try:
            yield began
        finally:
            ended.set()
            thread.join()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["a checkpoint is sent", "tiles are read"])
def test_a_minute_without_s3_is_got_past(
    when: str,
    training_in: Begin,
    undisturbed: Outcome,
    shard_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with s3_server() as server:
        for name, value in {"AWS_ENDPOINT_URL": server.url, **S3_CREDENTIALS}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET.removeprefix("s3://"))
        for path in sorted(path for path in shard_folder.rglob("*") if path.is_file()):
            put_file(path, f"{BUCKET}/shards/{path.relative_to(shard_folder).as_posix()}")
        training: Training = training_in(tmp_path, runs=f"{BUCKET}/runs", shards=f"{BUCKET}/shards")
        process = training.start()
        training.wait_for_checkpoint(lambda step: step >= SEGMENT)
        sent = when == "a checkpoint is sent"
        methods, key = (("PUT", "POST"), "/runs/") if sent else (("GET", "HEAD"), "/shards/")
        with outage(server, *methods, key=key, seconds=OUTAGE_S) as began:
            limit = time.monotonic() + 60
            while not began:
                assert time.monotonic() < limit, f"nothing was asked of S3\n{training.said}"
                time.sleep(0.05)
            last = training.checkpoint_steps()[-1]
            training.wait_for_checkpoint(lambda step: step > last, timeout_s=300)
            print(f"{when}: the next checkpoint came {time.monotonic() - began[0]:.0f} s after S3 went away")
        ended = training.outcome(training.finish(process))
        for line in training.incidents():
            print(f"step {line['step']}, last checkpoint {line['committed']}: {line['message']}")
            assert line["cause"] == "outage" and line["step"] - line["committed"] <= SEGMENT
    assert last < STEPS, "it went away too late to matter"
    # On S3 an attempt's record of batches is sent at its end, or is lost with the bucket.
    assert ended.batches.items() <= undisturbed.batches.items()
    assert ended.weights == undisturbed.weights


def test_a_second_command_in_the_same_run_refuses_and_the_first_goes_on(
    training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path)
    first = training.start()
    training.wait_for_step(3)
    second = subprocess.run(training.command, capture_output=True, text=True, timeout=120)
    assert second.returncode == 2, second.stdout + second.stderr
    print(second.stderr.strip())
    assert str(first.pid) in second.stderr, "it names the first"
    ends_as_if_undisturbed(training, first, undisturbed, fault="two commands")
    assert training.repeated() == 0

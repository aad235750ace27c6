"""The place of a run is full, away, or somebody else's."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pbrlib import storage
from tests.faults.cluster import Cluster
from tests.faults.conftest import SEGMENT, STEPS, Begin
from tests.faults.test_processes import ends_as_if_undisturbed
from tests.faults.training import Outcome, Training
from tests.s3_server import Answer, FaultyServer, refusing

TILES = "/shards/shards/"
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


@pytest.mark.slow
def test_a_full_disk_ends_the_command_with_a_message_and_the_same_command_resumes(
    small_disk: Path, shared_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path, cluster=shared_cluster, runs=str(small_disk / "runs"))
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
def outage(
    server: FaultyServer, *methods: str, key: str, answer: Answer, seconds: float
) -> Iterator[list[float]]:
    """S3 answers such requests so for a while from the first one on; gives when it began, once it has."""
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
        met = [faults.enter_context(server.failing(method, key, answer)) for method in methods]
        thread = threading.Thread(target=watch, args=(faults,))
        thread.start()
        try:
            yield began
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def shards(shard_folder: Path, bucket: str) -> str:
    """The shard set, on S3."""
    for path in sorted(path for path in shard_folder.rglob("*") if path.is_file()):
        storage.put_file(path, storage.to_path(f"{bucket}/shards") / path.relative_to(shard_folder))
    return f"{bucket}/shards"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_minute_without_s3_while_a_checkpoint_is_sent_costs_no_step(
    s3: FaultyServer,
    bucket: str,
    shards: str,
    shared_cluster: Cluster,
    training_in: Begin,
    undisturbed: Outcome,
    tmp_path: Path,
) -> None:
    training: Training = training_in(tmp_path, cluster=shared_cluster, runs=f"{bucket}/runs", shards=shards)
    process = training.start()
    training.wait_for_checkpoint(lambda step: step >= SEGMENT)
    with outage(s3, "PUT", "POST", key="/runs/", answer=AWAY, seconds=60) as began:
        training.wait_until(lambda: began, timeout_s=60)
        last = training.checkpoint_steps()[-1]
        assert last < STEPS, "it went away too late to matter"
        training.wait_for_checkpoint(lambda step: step > last, timeout_s=300)
        print(f"the next checkpoint came {time.monotonic() - began[0]:.0f} s after S3 went away")
    ends_as_if_undisturbed(training, process, undisturbed, fault="S3 away, sending")
    assert training.repeated() == 0
    assert not training.incidents()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_minute_without_s3_while_tiles_are_read_costs_no_step(
    s3: FaultyServer,
    shards: str,
    shared_cluster: Cluster,
    training_in: Begin,
    undisturbed: Outcome,
    tmp_path: Path,
) -> None:
    training: Training = training_in(tmp_path, cluster=shared_cluster, shards=shards)
    # The stream of a phase as short as this one is read within seconds: it goes away with the first tile.
    with outage(s3, "GET", key=TILES, answer=AWAY, seconds=60) as began:
        process = training.start()
        training.wait_until(lambda: began, timeout_s=120)
        training.wait_for_step(0, timeout_s=300)
        print(f"the first step was done {time.monotonic() - began[0]:.0f} s after S3 went away")
    ends_as_if_undisturbed(training, process, undisturbed, fault="S3 away, reading")
    assert training.repeated() == 0
    assert "failed" not in [line["kind"] for line in training.incidents()]


@pytest.mark.slow
def test_a_second_command_in_the_same_run_refuses_and_the_first_continues(
    shared_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path, cluster=shared_cluster)
    first = training.start()
    training.wait_for_step(3)
    second = subprocess.run(
        training.command, env=training.environment, capture_output=True, text=True, timeout=120
    )
    assert second.returncode == 2, second.stdout + second.stderr
    print(second.stderr.strip())
    assert str(first.pid) in second.stderr, "it names the first"
    ends_as_if_undisturbed(training, first, undisturbed, fault="two commands")
    assert training.repeated() == 0

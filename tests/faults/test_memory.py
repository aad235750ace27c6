"""A node whose memory or object store runs full: Ray ends a worker, or writes objects to disk."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, kill_sessions
from tests.faults.conftest import SEGMENT, Begin
from tests.faults.test_processes import ends_as_if_undisturbed
from tests.faults.training import Outcome, Training

pytestmark = pytest.mark.slow

ROOM = 6 * 2**30
"""Bytes between what the machine uses before and the use at which Ray's monitor ends a worker."""

EATER = """
import sys, time
held = []
while len(held) * 2**28 < int(sys.argv[1]):
    held.append(b"x" * 2**28)
    time.sleep(0.1)
print("full", flush=True)
time.sleep(3600)
"""
"""It takes so many bytes of the machine."""

HOLDER = """
import ray, time
ray.init(logging_level="ERROR")

@ray.remote(num_cpus=0)
class Holder:
    def fill(self, count):
        self.held = [ray.put(bytes(10 * 2**20)) for _ in range(count)]

    def read(self):
        return sum(len(ray.get(one)) for one in self.held)

nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
holders = [Holder.options(scheduling_strategy=on(node, soft=False)).remote() for node in nodes]
ray.get([one.fill.remote(30) for one in holders])
print("full", flush=True)
while True:
    ray.get([one.read.remote() for one in holders])
    time.sleep(1)
"""


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Ends it with the block."""
    try:
        yield process
    finally:
        kill_sessions(process)
        if process.stdout is not None:
            process.stdout.close()


def wait_until_full(process: subprocess.Popen[str]) -> None:
    """Until it says so."""
    assert process.stdout is not None
    assert process.stdout.readline() == "full\n"


def memory() -> tuple[int, int]:
    """Bytes of the machine, all and available."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total, available


def eating(size: int) -> AbstractContextManager[subprocess.Popen[str]]:
    """Takes so many bytes of the machine, until the block ends."""
    command = [sys.executable, "-c", EATER, str(size)]
    return running(subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True))


@pytest.fixture
def watched_cluster(cluster: Cluster) -> Cluster:
    """Two nodes, one of which ends workers where the machine has ``ROOM`` less than now.

    Of nodes on one machine each would end something: the head what leads the fit.
    """
    total, available = memory()
    if available < 2 * ROOM:
        pytest.skip("the machine has too little memory to fill some of it")
    cluster.add_node({"RAY_memory_usage_threshold": f"{(total - available + ROOM) / total:.3f}"})
    cluster.add_node()
    return cluster


def test_a_worker_that_rays_memory_monitor_ends_is_replaced(
    watched_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path, cluster=watched_cluster)
    process = training.start()
    training.wait_for_step(SEGMENT + 3)
    began = time.monotonic()
    with eating(2 * ROOM):
        training.wait_until(training.incidents, timeout_s=120)
    training.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="memory monitor")
    assert "host memory" in [line["cause"] for line in training.incidents()]


def test_a_worker_that_rays_memory_monitor_ends_in_its_start_is_replaced(
    watched_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path, cluster=watched_cluster)
    with eating(ROOM + 2**29) as eater:
        wait_until_full(eater)
        process = training.start()
        training.wait_until(training.incidents, timeout_s=180)
        began = time.monotonic()
    training.wait_for_attempt(1)
    print(f"begun after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="memory monitor, in a start")
    told = training.incidents()
    print(*told, sep="\n")
    assert [(line["cause"], line["verdict"]) for line in told] == [("host memory", "retried")]
    assert training.repeated() == 0


def test_memory_that_stays_full_ends_the_command_with_its_remedy(
    watched_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path, cluster=watched_cluster)
    with eating(ROOM + 2**29) as eater:
        wait_until_full(eater)
        assert training.start().wait(timeout=240) == 2, training.said
    print(training.said)
    assert "use nodes with more memory" in training.said.splitlines()[-1]
    assert "Traceback" not in training.said
    ends_as_if_undisturbed(training, training.start(), undisturbed, fault="memory that stayed full")


def test_a_full_object_store_goes_to_disk_and_training_continues(
    cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    cluster.add_nodes(2)  # with a store of 100 MB each
    training: Training = training_in(tmp_path, cluster=cluster)
    process = training.start()
    training.wait_for_step(SEGMENT)
    with running(cluster.run(HOLDER)) as holder:
        wait_until_full(holder)
        reached = training.reached()
        spilled = [path for path in cluster.head.session.glob("ray_spilled_objects_*/*") if path.is_file()]
        print(f"{sum(path.stat().st_size for path in spilled) / 2**20:.0f} MiB on disk at step {reached}")
        assert spilled
        ends_as_if_undisturbed(training, process, undisturbed, fault="object store full")
    assert reached < training.steps - SEGMENT, "the store was full too late to matter"
    assert training.repeated() == 0

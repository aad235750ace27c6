"""The memory of long-lived processes does not grow with the number of epochs."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from statistics import mean

import pytest

from tests.faults.cluster import Cluster, processes
from tests.faults.conftest import Begin
from tests.faults.training import Training

EPOCHS, STEPS_OF_EPOCH = 200, 5
MOST = 0.05
"""Share by which the mean of the last quarter may lie over that of the second."""
ACTORS = {"controller": "TrainController", "worker": "RayTrainWorker"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_number_of_epochs(
    cluster: Cluster, training_in: Begin, tmp_path: Path
) -> None:
    cluster.add_nodes(2)
    training: Training = training_in(
        tmp_path,
        steps=EPOCHS * STEPS_OF_EPOCH,
        segment=STEPS_OF_EPOCH,
        cluster=cluster,
        # Epochs of a second would mostly wait for the controller to look.
        settings={"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"},
    )
    process = training.start()
    seen: list[tuple[int, dict[str, float]]] = []
    while process.poll() is None:
        epoch = (training.reached() + 1) // STEPS_OF_EPOCH
        with suppress(OSError):
            seen.append((epoch, {"driver": own_bytes(process.pid), **sizes(cluster)}))
        time.sleep(1)
    training.finish(process)
    for name in ("driver", *ACTORS, "raylet", "object store"):
        second, third, last = (
            mean(one[name] for epoch, one in seen if first <= epoch < first + EPOCHS // 4 and name in one)
            for first in (EPOCHS // 4, EPOCHS // 2, 3 * EPOCHS // 4)
        )
        mib = " ".join(f"{one / 2**20:8.1f}" for one in (second, third, last))
        print(f"{name:12} {mib} MiB in the second, third and last quarter of {EPOCHS} epochs")
        if name != "raylet":  # Ray's own, some megabytes
            assert last <= second * (1 + MOST) + 2**20, name


def own_bytes(pid: int) -> float:
    """Return the private memory of a process, without the object store."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def sizes(cluster: Cluster) -> dict[str, float]:
    """The largest of each kind of process, and what lies in the object stores."""
    pids = {kind: cluster.head.processes(f"ray::{name}") for kind, name in ACTORS.items()}
    pids["raylet"] = [
        pid
        for node in cluster.nodes
        for pid in processes(lambda command: "raylet/raylet " in command, session=node.pid)
    ]
    nodes = cluster.head.ask("/nodes?view=summary")["data"]["summary"]
    return {
        **{kind: max(map(own_bytes, found)) for kind, found in pids.items() if found},
        "object store": sum(node["raylet"]["objectStoreUsedMemory"] for node in nodes),
    }

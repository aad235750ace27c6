"""What it costs when a node goes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Begin
from tests.faults.test_processes import ends_as_if_undisturbed, random_step_inside_a_segment
from tests.faults.training import Outcome, Training

pytestmark = pytest.mark.slow


def node_of_a_worker(cluster: Cluster) -> int:
    """The number of a node that has a worker."""
    return next(number for number, _ in enumerate(cluster.nodes) if cluster.has("RayTrainWorker", number))


@pytest.mark.parametrize("spare", [True, False], ids=["with a spare", "without"])
def test_a_lost_node_is_made_good_by_another(
    spare: bool, cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    for _ in range(3 if spare else 2):
        cluster.add_node()
    training: Training = training_in(
        tmp_path, environment=cluster.head.environment, address=cluster.head.address
    )
    process = training.start()
    training.wait_for_step(random_step_inside_a_segment())
    began = time.monotonic()
    cluster.lose(cluster.nodes[node_of_a_worker(cluster)])
    if not spare:
        cluster.add_node()
    training.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="node lost")
    assert training.repeated() > 0, "the node was lost too late to matter"


def test_a_node_that_is_to_be_taken_away_costs_the_steps_since_a_checkpoint_before(
    cluster: Cluster, training_in: Begin, tmp_path: Path
) -> None:
    lengths = {"steps": 400, "segment": 200}
    for _ in range(3):
        cluster.add_node()
    drained: Training = training_in(
        tmp_path / "drained",
        environment=cluster.head.environment,
        address=cluster.head.address,
        **lengths,
    )
    process = drained.start()
    drained.wait_for_step(20)
    number = node_of_a_worker(cluster)
    cluster.drain(number, deadline_s=60)
    early = drained.wait_for_checkpoint(lambda step: step % 200 != 0)
    cluster.lose(cluster.nodes[number])
    began, reached = time.monotonic(), drained.reached()
    print(f"told at step {early}, lost at step {reached}")
    drained.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ended = drained.outcome(drained.finish(process))
    print(f"drained: {drained.repeated()} steps repeated")
    assert drained.repeated() <= reached + 2 - early

    undisturbed: Training = training_in(tmp_path / "undisturbed", **lengths)
    assert ended == undisturbed.outcome(undisturbed.finish(undisturbed.start()))
    assert "preempted" in [line["kind"] for line in drained.incidents()]

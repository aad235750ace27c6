"""The cost of losing a node, or all nodes."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import SEGMENT, STEPS, WORKERS, Begin
from tests.faults.test_processes import ends_as_if_undisturbed, random_step_inside_a_segment
from tests.faults.training import Outcome, Training

pytestmark = pytest.mark.slow

LOOK_S = 70
"""A fit looks for its place for a minute, and again."""

NOTICE_S = 60
"""Seconds between a notice and the end of its node."""


def node_of_a_worker(cluster: Cluster) -> int:
    """The number of a node that has a worker."""
    return next(number for number, _ in enumerate(cluster.nodes) if cluster.has("RayTrainWorker", number))


@pytest.mark.parametrize("spare", [True, False], ids=["with a spare", "without"])
def test_a_lost_node_is_made_good_by_another(
    spare: bool,
    cluster: Cluster,
    training_in: Begin,
    undisturbed: Outcome,
    chance: random.Random,
    tmp_path: Path,
) -> None:
    cluster.add_nodes(WORKERS + spare)
    training: Training = training_in(tmp_path, cluster=cluster)
    process = training.start()
    training.wait_for_step(random_step_inside_a_segment(chance))
    began = time.monotonic()
    cluster.lose(cluster.nodes[node_of_a_worker(cluster)])
    if not spare:
        training.wait_until(training.incidents, timeout_s=120)
        time.sleep(LOOK_S)
        assert training.attempts() == 1, "there was a place for it"
        print(f"without a place {time.monotonic() - began:.0f} s after")
        began = time.monotonic()
        cluster.add_node()
    training.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="node lost")
    assert training.repeated() > 0, "the node was lost too late to matter"


@pytest.mark.timeout(900)
def test_a_node_that_is_to_be_taken_away_costs_the_steps_since_a_checkpoint_before(
    cluster: Cluster, long_training_in: Begin, long_undisturbed: Outcome, tmp_path: Path
) -> None:
    cluster.add_nodes(WORKERS + 1)
    # It costs none of the retries.
    without_retries = {"workers": WORKERS, "max_failures": 0}
    drained: Training = long_training_in(tmp_path, cluster=cluster, runtime=without_retries)
    process = drained.start()
    drained.wait_for_step(20)
    number = node_of_a_worker(cluster)
    told = time.monotonic()
    cluster.drain(number, deadline_s=NOTICE_S)
    early = drained.wait_for_checkpoint(lambda step: step % drained.segment != 0, timeout_s=NOTICE_S - 10)
    took = time.monotonic() - told
    print(f"a checkpoint at step {early}, {took:.0f} s after the notice of {NOTICE_S} s was sent")
    assert took < NOTICE_S
    cluster.lose(cluster.nodes[number])
    began = time.monotonic()
    drained.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(drained, process, long_undisturbed, fault="node taken away")
    print(f"lost after step {drained.last_of_first_attempt()}", *drained.incidents(), sep="\n")
    # Ray ends the worker some time after its raylet, and it trains until then.
    assert drained.repeated() == drained.last_of_first_attempt() + 1 - early
    assert "preempted" in [line["kind"] for line in drained.incidents()]


@pytest.mark.timeout(900)
def test_the_same_command_resumes_on_another_cluster_after_the_whole_one_was_killed_twice(
    training_in: Begin, undisturbed: Outcome, chance: random.Random, tmp_path: Path
) -> None:
    training: Training = training_in(tmp_path)
    for first, last in ((SEGMENT, 2 * SEGMENT), (3 * SEGMENT, STEPS - 2 * SEGMENT)):
        with Cluster() as training.cluster:
            training.cluster.add_nodes(WORKERS + 1)
            process = training.start()
            training.wait_for_step(chance.randrange(first + 1, last))
            training.cluster.kill(process)
        print(f"killed whole after step {training.reached()}")
    assert training.reached() < STEPS - 1, "it was killed too late to matter"
    began = time.monotonic()
    with Cluster() as training.cluster:
        training.cluster.add_nodes(WORKERS + 1)
        print(f"another cluster is up after {time.monotonic() - began:.0f} s")
        process = training.start()
        training.wait_for_attempt(3)
        print(f"back after {time.monotonic() - began:.0f} s")
        ends_as_if_undisturbed(training, process, undisturbed, fault="killed whole, twice", faults=2)

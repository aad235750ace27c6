"""Workers come and go: the batches stay, and so does the curve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Begin
from tests.faults.training import Training

SEGMENT, STEPS = 25, 1000


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_four_workers_become_two_then_three_then_four_and_see_the_same_batches(
    cluster: Cluster, training_in: Begin, tmp_path: Path
) -> None:
    cluster.add_nodes(4)
    elastic: Training = training_in(
        tmp_path / "elastic",
        steps=STEPS,
        segment=SEGMENT,
        runtime={"workers": 4, "min_workers": 1, "resize_check_s": 3.0, "max_failures": 9},
        cluster=cluster,
    )
    process = elastic.start()
    elastic.wait_for_step(2 * SEGMENT, world=4)
    for node in cluster.nodes[:2]:
        cluster.lose(node)
    print(f"two of four nodes lost: went on after {elastic.wait_for_step(0, world=2):.0f} s")
    for world in (3, 4):
        cluster.add_node()
        print(f"one added: {world} workers after {elastic.wait_for_step(0, world=world):.0f} s")
    elastic.finish(process, timeout_s=600)  # four workers may share two cores
    restarts = elastic.attempts() - 1
    print(f"steps repeated: {elastic.repeated()} in {restarts} restarts, workers: {elastic.worlds()}")
    assert elastic.repeated() <= restarts * SEGMENT

    undisturbed: Training = training_in(tmp_path / "fixed", steps=STEPS, segment=SEGMENT)
    undisturbed.finish(undisturbed.start(), timeout_s=600)
    assert sorted(elastic.batches()) == list(range(STEPS))
    assert elastic.batches() == undisturbed.batches()
    assert elastic.worlds()[-1] == 4
    assert elastic.curve() == pytest.approx(undisturbed.curve(), rel=1e-3)

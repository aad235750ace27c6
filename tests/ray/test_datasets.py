"""What the processes of the data stream do and do not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pbrlib.data.balance import BalanceSpec
from pbrlib.data.collate import collate
from pbrlib.data.draw import fetch
from pbrlib.data.mosaic import MosaicSpec
from pbrlib.data.plan import PlanRequest, make_plan
from pbrlib.data.shards.reader import ShardSet
from ray_jobs.datasets import DRAWS_PER_BLOCK, stream

MAPS = ("normal", "albedo", "height", "mask")
BATCH = 6


def test_a_fetch_task_starts_without_torch() -> None:
    """Unpickling a task imports its module; torch alone would be more than half of the start-up."""
    program = "import ray_jobs.datasets, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.ray
def test_the_stream_delivers_what_a_plain_loop_does(ray_cluster: None, shard_set: ShardSet) -> None:
    plan = make_plan(
        shard_set.rows,
        PlanRequest(
            mix={"generated": 1.0},
            crop=64,
            batch=BATCH,
            epochs=4,
            maps=("normal",),
            seed=2,
            phase="X",
            balance=BalanceSpec(minority=("wood", "metal"), minority_tiles=0.2),
            mosaic=MosaicSpec(sources=("generated",), two=0.3, four=0.2),
        ),
    )
    assert plan.table.num_rows > DRAWS_PER_BLOCK
    streamed = list(stream(plan.table, shard_set, maps=MAPS, batch=BATCH, cpus=1.0, prefetch=2))
    assert len(streamed) == plan.total_steps
    assert any(batch.layouts for batch in streamed)
    for step, batch in enumerate(streamed):
        draws = plan.table.slice(step * BATCH, BATCH)
        plain = collate(fetch(draws, shard_set, MAPS), shard_set.rows, maps=MAPS)
        assert batch.ids == plain.ids
        assert batch.layouts == plain.layouts
        assert torch.equal(batch.seeds, plain.seeds)
        assert all(torch.equal(batch.maps[name], plain.maps[name]) for name in MAPS)

"""The processes of the data stream."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.drawspec import BalanceSpec, MosaicSpec
from pbrlib.data.draws.fetch import fetch
from pbrlib.data.draws.plan import DrawPlan, PlanRequest, make_plan
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.errors import DamageError
from ray_jobs.fit.datasets import DRAWS_PER_BLOCK, stream
from tests.damage import flip_tile

MAPS = ("normal", "albedo", "height", "mask")
BATCH = 6


def test_processes_that_need_no_torch_start_without_it() -> None:
    """Fetch tasks, the controller of a fit and prepare tasks: torch would be over half of their start-up."""
    modules = "ray_jobs.fit.datasets, ray_jobs.fit.placement, ray_jobs.jobtasks"
    program = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_workers_import_only_the_libraries_of_the_networks_that_they_train() -> None:
    libraries = {"segmentation_models_pytorch", "timm", "torchvision", "transformers"}
    program = f"import ray_jobs.fit.fit, sys; print({libraries} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def planned(shards: ShardSet) -> DrawPlan:
    return make_plan(
        shards.rows,
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


def streamed(plan: DrawPlan, shards: ShardSet) -> list[RawBatch]:
    return list(stream(plan.table, shards, maps=MAPS, batch=BATCH, cpus=1.0, prefetch=2))


def assert_plain(found: Sequence[RawBatch], plan: DrawPlan, shards: ShardSet) -> None:
    """Batches are those of a plain loop without a cache."""
    assert len(found) == plan.total_steps
    for step, batch in enumerate(found):
        draws = plan.table.slice(step * BATCH, BATCH)
        plain = collate(fetch(draws, shards, MAPS), shards, maps=MAPS)
        assert batch.ids == plain.ids
        assert batch.layouts == plain.layouts
        assert torch.equal(batch.seeds, plain.seeds)
        assert all(torch.equal(batch.maps[name], plain.maps[name]) for name in MAPS)


@pytest.mark.ray
def test_the_stream_delivers_what_a_plain_loop_does(ray_cluster: None, shard_set: ShardSet) -> None:
    plan = planned(shard_set)
    assert plan.table.num_rows > DRAWS_PER_BLOCK
    found = streamed(plan, shard_set)
    assert any(batch.layouts for batch in found)
    assert_plain(found, plan, shard_set)


@pytest.mark.ray
def test_streams_through_a_cold_and_a_warm_cache_deliver_what_a_plain_loop_does(
    ray_cluster: None, shard_set: ShardSet, tmp_path: Path
) -> None:
    plan = planned(shard_set)
    cache = TileCache(tmp_path, max_bytes=2**30, keep_free=0)
    cached = ShardSet.open(shard_set.location, cache=cache)
    assert_plain(streamed(plan, cached), plan, shard_set)
    assert cache.used_bytes > 0
    for column in fetch(plan.table, cached, MAPS).columns[-len(MAPS) :]:
        assert column.combine_chunks().flatten().null_count == len(column.combine_chunks().flatten())
    assert_plain(streamed(plan, cached), plan, shard_set)


NODES = """
import pathlib, sys
import ray
from ray.cluster_utils import Cluster
from pbrlib.data.shards.reader import ShardSet
from ray_jobs.fit.datasets import stream
from tests.ray.test_datasets import BATCH, MAPS, planned

LOCATION, SEEN = sys.argv[1:]  # of this process alone

class Watched(ShardSet):
    def __reduce__(self):
        return Watched, (self.location, self.manifest, self.rows)

    def __init__(self, location, manifest, rows):
        super().__init__(location, manifest=manifest, rows=rows)

    def read_columns(self, *given):
        pathlib.Path(SEEN, ray.get_runtime_context().get_node_id()).touch()
        return super().read_columns(*given)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)

@ray.remote(num_cpus=0)
def work(location):
    shards = ShardSet.open(location)
    watched = Watched(location, shards.manifest, shards.rows)
    plan = planned(shards)
    batches = list(stream(plan.table, watched, maps=MAPS, batch=BATCH, cpus=1.0, prefetch=1))
    assert len(batches) == plan.total_steps
    return ray.get_runtime_context().get_node_id()

on_other = work.options(label_selector={"ray.io/node-id": other.node_id})
print(ray.get(on_other.remote(LOCATION), timeout=100))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_tiles_are_fetched_on_the_node_of_the_worker_that_decodes_them(
    shard_set: ShardSet, tmp_path: Path
) -> None:
    """A task runs on the node of its worker, which holds its CPUs and the cached tiles."""
    (tmp_path / "nodes").mkdir()
    program = [sys.executable, "-c", NODES, shard_set.location, str(tmp_path / "nodes")]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    run = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=160)
    assert run.returncode == 0, run.stderr
    assert [path.name for path in (tmp_path / "nodes").iterdir()] == [run.stdout.split()[-1]]


@pytest.mark.ray
def test_bad_samples_are_replaced_in_a_stream_as_in_a_plain_loop(
    ray_cluster: None, shard_folder: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(shard_folder, tmp_path / "shards")
    flip_tile(root, ShardSet.open(root).rows[0], "normal")
    shards = ShardSet.open(root, on_bad_sample="skip")
    plan = planned(shards)
    assert plan.table.num_rows > DRAWS_PER_BLOCK, "blocks with damage and blocks without must go together"
    found = streamed(plan, shards)
    assert_plain(found, plan, shards)
    named = {name for batch in found for name, _ in batch.replaced}
    assert named == {row.id for row in shards.rows[:2]}, "the two materials of the page"
    for step, batch in enumerate(found):
        draws = plan.table.slice(step * BATCH, BATCH)
        plain = collate(fetch(draws, shards, MAPS), shards, maps=MAPS)
        assert batch.replaced == plain.replaced
        assert len(batch) == BATCH
    with pytest.raises(DamageError, match=r"damaged \("):
        streamed(plan, ShardSet.open(root))

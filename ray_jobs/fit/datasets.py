"""Turn a draw plan into batches with one Ray Data execution per phase and rank.

The processes of the fetch tasks import this module, so the module imports no torch: that would be most of
their start-up, also for processes that start in the middle of a stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray.data
from ray.data.collate_fn import ArrowBatchCollateFn

from pbrlib.data.draws.fetch import fetch
from pbrlib.data.shards.dataset import DataSet
from ray_jobs.fit.pace import Pace
from ray_jobs.rayinternals import NODE_LABEL

if TYPE_CHECKING:
    from pbrlib.data.draws.batch import RawBatch

DRAWS_PER_BLOCK = 32
"""Draws that one data task fetches: about 30 MB of compressed tiles."""

_SHOWN = 3
"""Number of shards that a message names."""

STORE_BYTES = 512 * 2**20
"""Compressed tiles that one rank's stream may hold in the object store."""


class _Fetch:
    """Adds the compressed tiles that each draw touches; opens the shard set once per process."""

    def __init__(self, shards: DataSet, maps: Sequence[str]) -> None:
        self._shards, self._maps = shards, maps

    def __call__(self, draws: pa.Table) -> pa.Table:
        return fetch(draws, self._shards, self._maps)


class _Collate(ArrowBatchCollateFn):
    """Decodes, crops and stacks tiles in threads of the worker, since compressed tiles are smaller to send.

    Tiles that were in the cache of the fetching node are not sent; they are read from the cache here, or
    from their shard if another node fetched.
    """

    def __init__(self, shards: DataSet, maps: Sequence[str]) -> None:
        self._shards, self._maps = shards, maps

    def __call__(self, batch: pa.Table) -> Any:
        from pbrlib.data.draws.collate import collate

        return collate(batch, self._shards, maps=self._maps)


def waiting_for(draws: pa.Table, shards: DataSet) -> str:
    """Describe what the batch of these draws waits for: the data tasks, and the shards that they read."""
    numbers = {shards.rows[sample].shard for sample in draws["sample"].to_pylist()}
    files = [str(shards.shards[number].place) for number in sorted(numbers)]
    source = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
    match Pace.tasks:
        case None:
            return f"Ray Data to begin with {source}: look for free CPUs and memory with `ray status`"
        case 0:
            return f"its stream, which has no task at work: what was read of {source} waits to be decoded"
        case tasks:
            return f"{tasks} data task{'s' if tasks > 1 else ''} at work, reading {source}"


def stream(
    draws: pa.Table, shards: DataSet, *, maps: Sequence[str], batch: int, cpus: float, prefetch: int
) -> Iterator[RawBatch]:
    """Return batches of ``batch`` consecutive draws, in order, from one execution.

    ``cpus`` fetch tasks run at once. They request no CPU from Ray, because the worker of this stream has
    reserved theirs: fits that share a cluster never wait for each other with half of their resources. They
    run on the worker's node, which has those CPUs and the tile cache, or on another one if that node accepts
    no tasks because it will be preempted. ``prefetch`` batches are collated ahead.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    # The DataError of a damaged shard is raised unchanged.
    context.raise_original_map_exception = True
    context.custom_execution_callback_classes = [Pace]
    context.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(
        object_store_memory=STORE_BYTES
    )
    here = ray.get_runtime_context().get_node_id()
    blocks = [draws.slice(start, DRAWS_PER_BLOCK) for start in range(0, draws.num_rows, DRAWS_PER_BLOCK)]
    # from_arrow looks at every block in a task of its own, which would wait for a whole CPU.
    dataset = ray.data.from_blocks(blocks).map_batches(
        _Fetch(shards, maps),
        batch_format="pyarrow",
        batch_size=None,
        zero_copy_batch=True,
        num_cpus=0,
        label_selector={NODE_LABEL: here},
        fallback_strategy=[{"label_selector": {NODE_LABEL: f"!{here}"}}],
        concurrency=max(1, math.floor(cpus)),
    )
    batches: Any = dataset.iter_torch_batches(
        batch_size=batch, collate_fn=_Collate(shards, maps), prefetch_batches=prefetch, device="cpu"
    )
    return iter(batches)

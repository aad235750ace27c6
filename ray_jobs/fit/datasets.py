"""The draw plan as one Ray Data execution per phase and rank.

The processes of the fetch tasks import this module, so it imports no torch: that would be most of their
start-up, once for each process that Ray gives a task to, in the middle of a stream too.
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
"""Draws that one data task fetches: some 30 MB of compressed tiles."""

_SHOWN = 3
"""Shards that a message names."""

STORE_BYTES = 512 * 2**20
"""Compressed tiles that one rank's stream may hold in the object store."""


class _Fetch:
    """Adds the compressed tiles that each draw touches; opens the shard set once per process."""

    def __init__(self, shards: DataSet, maps: Sequence[str]) -> None:
        self._shards, self._maps = shards, maps

    def __call__(self, draws: pa.Table) -> pa.Table:
        return fetch(draws, self._shards, self._maps)


class _Collate(ArrowBatchCollateFn):
    """Decodes, crops and stacks in the worker's threads: compressed bytes travel, pixels do not.

    Tiles that the cache held when they were to be fetched have not travelled. The cache has them here too,
    or, where another node has fetched, their shard.
    """

    def __init__(self, shards: DataSet, maps: Sequence[str]) -> None:
        self._shards, self._maps = shards, maps

    def __call__(self, batch: pa.Table) -> Any:
        from pbrlib.data.draws.collate import collate

        return collate(batch, self._shards, maps=self._maps)


def waiting_for(draws: pa.Table, shards: DataSet) -> str:
    """What the batch of these draws hangs on, as its worker sees it: the data tasks, and what they read."""
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
    """Batches of ``batch`` consecutive draws, in their order, from one execution.

    As many fetch tasks run at once as ``cpus`` says. They ask Ray for no CPU: the worker whose stream this
    is holds theirs, so that fits which share a cluster never wait for each other half placed. They run on
    its node, where those CPUs are and the tiles that are cached, which they leave out; on another one where
    it takes no more tasks, since it is to be taken away. ``prefetch`` batches are collated ahead.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    # A damaged shard should arrive as the DataError that it is.
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

"""Checks whether a cluster has the resources for a training: found and needed values, with verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pbrlib.curriculum.describe.phrases import size
from pbrlib.data.shards.codec import TILE
from pbrlib.rehearsal.node import NodeFacts
from pbrlib.train.runtimespec import RuntimeSpec

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One line of the preflight: the value found, the value needed, and the verdict.

    ``advice`` is the remedy; None if the verdict is ``ok``.
    """

    check: str
    found: str
    needed: str
    verdict: Verdict = "ok"
    advice: str | None = None

    def as_data(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Communication:
    """Measurements of the communication between the ranks of a training run.

    Attributes:
        backend: Backend of torch's process group.
        world: Number of ranks.
        hosts: Host of each rank.
        bytes: Size of the gradient that was summed over all ranks.
        seconds: Median duration of several sums.
        right: Whether every rank got the correct sum.
        error: The error of the communication; None without one.
    """

    backend: str
    world: int
    hosts: tuple[str, ...] = ()
    bytes: int = 0
    seconds: float = 0.0
    right: bool = False
    error: str | None = None

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of each rank: a ring all-reduce moves 2 (n - 1) / n of the gradient."""
        return 2 * (self.world - 1) / self.world * self.bytes / self.seconds if self.seconds else 0.0


def check_communication(measured: Communication) -> Check:
    """Check whether the ranks can communicate."""
    needed = (
        f"{measured.world} workers, correct sums of {size(measured.bytes)}"
        if measured.bytes
        else "workers that respond"
    )
    if measured.error is not None:
        advice = "Check the network between the nodes: all ports must be open, on one interface"
        if measured.backend == "nccl":
            advice += " (set by NCCL_SOCKET_IFNAME; NCCL_DEBUG=WARN prints details)"
        return Check(measured.backend, measured.error, needed, "failed", f"{advice}.")
    if measured.world == 1:
        return Check(measured.backend, "one worker, no communication", "nothing")
    where = f"{len(set(measured.hosts))} node{'s' if len(set(measured.hosts)) > 1 else ''}"
    rate = size(round(measured.bytes_per_s))
    found = f"{where}, {measured.seconds * 1000:.0f} ms = {rate}/s through each worker"
    if not measured.right:
        return Check(
            measured.backend, f"{found}, wrong sums", needed, "failed", "Replace the device or its driver."
        )
    return Check(measured.backend, found, needed)


def storage_shared(
    nodes: Sequence[NodeFacts],
    *,
    place: str,
    token: str,
    back: Mapping[str, str | None],
    own: Mapping[str, str],
) -> Check:
    """Check whether every node reads the driver's file, and the driver reads the files of all nodes.

    Args:
        nodes: The facts of the nodes.
        place: The runs directory.
        token: The content of the driver's file.
        back: The content of each node's file as the driver reads it.
        own: The content that each node wrote.
    """
    needed = "nodes and driver read each other's files"
    wrong = [
        f"{one.host}: {one.writes or (one.reads if one.reads != token else 'its file is not visible here')}"
        for one in nodes
        if one.writes is not None or one.reads != token or back[one.node] != own[one.node]
    ]
    if wrong:
        return Check(
            "storage shared",
            f"{len(wrong)} of {len(nodes)} nodes do not share it: {'; '.join(wrong[:2])}",
            needed,
            "failed",
            f"Mount the storage of {place} on every node, including the head, writable and under one path.",
        )
    if len(nodes) == 1:
        return Check("storage shared", "one node", needed)
    return Check("storage shared", f"{len(nodes)} nodes", needed)


def data_readable(nodes: Sequence[NodeFacts], *, data: str, fingerprint: str) -> Check:
    """Check whether every node reads the same shard set as the driver."""
    wrong = [one for one in nodes if one.data != fingerprint]
    if wrong:
        problem = wrong[0].data if ":" in wrong[0].data else "another version of it"
        return Check(
            "shards readable",
            f"not from {len(wrong)} of {len(nodes)} nodes; {wrong[0].host}: {problem}",
            "the same manifest everywhere",
            "failed",
            f"Make {data} readable on every node: mount it, or use an s3:// address.",
        )
    return Check("shards readable", f"same manifest from {_nodes(nodes)}", "the same manifest everywhere")


def space(free: int, *, needed: int, place: str) -> Check:
    """Check whether the runs directory has enough free space."""
    check = Check("free space", size(free), size(needed))
    if free < needed:
        return _failed(check, f"Free space below {place}, or give another --runs.")
    return check


def store_need(
    runtime: RuntimeSpec, *, crop: int, batch: int, tile_bytes: float, block: int, limit: int
) -> int:
    """Return the bytes that the stream of one worker keeps in the object store.

    Args:
        runtime: The number of parallel blocks and of prefetched batches.
        crop: Side of the crops in pixels; an unaligned crop needs one more tile in each direction.
        batch: Draws of one worker per step.
        tile_bytes: Size of a stored tile with all its maps.
        block: Draws per block.
        limit: Maximum size of a stream.
    """
    draw = (math.ceil(crop / TILE) + 1) ** 2 * tile_bytes
    blocks = max(1, math.floor(runtime.data_cpus)) + 1
    return min(limit, round((blocks * block + runtime.prefetch * batch) * draw))


def object_store(
    nodes: Sequence[NodeFacts], *, stores: Mapping[str, int], workers: Mapping[str, int], per_worker: int
) -> Check:
    """Check whether each node's object store is large enough for the streams of its workers."""
    left = {one.node: stores[one.node] - workers[one.node] * per_worker for one in nodes}
    tightest = min(nodes, key=lambda one: left[one.node])
    num = workers[tightest.node]
    check = Check(
        "object store",
        f"{size(stores[tightest.node])} on {tightest.host}",
        f"{size(num * per_worker)} = {num} x {size(per_worker)}",
    )
    if left[tightest.node] < 0:
        return _failed(
            check,
            "Start Ray with a larger --object-store-memory; otherwise it spills to disk between steps.",
        )
    return check


def shared_memory(nodes: Sequence[NodeFacts], *, stores: Mapping[str, int]) -> Check:
    """Check whether /dev/shm is large enough for the object store of each node, which else is on a disk."""
    small = [one for one in nodes if (one.shm_bytes or 0) < stores[one.node]]
    shown = small[0] if small else min(nodes, key=lambda one: (one.shm_bytes or 0) - stores[one.node])
    check = Check(
        "/dev/shm",  # noqa: S108  # a name in a table
        "none" if shown.shm_bytes is None else f"{size(shown.shm_bytes)} on {shown.host}",
        f"{size(stores[shown.node])}, the object store",
    )
    if small:
        return _failed(
            check,
            "Ray would keep objects in /tmp, at the speed of the disk. Set --shm-size of the container, a "
            "memory volume at /dev/shm of the pod, or a smaller --object-store-memory of Ray.",
        )
    return check


def processors(nodes: Sequence[NodeFacts], *, workers: Mapping[str, int], runtime: RuntimeSpec) -> Check:
    """Check whether the CPUs that Ray assigns to workers and their data streams exist."""
    demand = {one.node: workers[one.node] * runtime.cpus_of_worker for one in nodes}
    tightest = min(nodes, key=lambda one: one.cpus - demand[one.node])
    check = Check(
        "CPUs",
        f"{tightest.cpus} on {tightest.host}",
        f"{demand[tightest.node]:g} = {workers[tightest.node]} x ({runtime.cpus_per_worker:g} + "
        f"{runtime.data_cpus:g} for its data)",
    )
    if tightest.cpus < demand[tightest.node]:
        return Check(
            check.check,
            check.found,
            check.needed,
            "warning",
            "Workers and their data streams share CPUs, so steps are slower than with all the CPUs.",
        )
    return check


def memory(
    nodes: Sequence[NodeFacts], *, workers: Mapping[str, int], per_worker: int, stores: Mapping[str, int]
) -> Check:
    """Check whether each node's memory fits its workers, validation textures and object store."""
    needs = {one.node: workers[one.node] * per_worker + stores[one.node] for one in nodes}
    tightest = min(nodes, key=lambda one: one.memory_bytes - needs[one.node])
    check = Check(
        "memory of a node",
        f"{size(tightest.memory_bytes)} on {tightest.host}",
        f"{size(needs[tightest.node])}: {workers[tightest.node]} x {size(per_worker)} and the object store",
    )
    if tightest.memory_bytes < needs[tightest.node]:
        return _failed(
            check,
            "Use fewer workers per node, a smaller --object-store-memory, or fewer validation textures.",
        )
    return check


def device_memory(peak: int, *, reserved: int, device: int) -> Check:
    """Check whether the fullest device has memory left; a phase that ran out of memory reports it itself."""
    check = Check("device memory", f"{size(peak)} used, {size(reserved)} reserved", f"below {size(device)}")
    if reserved > 0.95 * device:
        return Check(
            check.check,
            check.found,
            check.needed,
            "warning",
            "Another batch may not fit. Set a smaller batch_per_device in the runtime file.",
        )
    return check


def _failed(check: Check, advice: str) -> Check:
    return Check(check.check, check.found, check.needed, "failed", advice)


def _nodes(nodes: Sequence[NodeFacts]) -> str:
    return "one node" if len(nodes) == 1 else f"{len(nodes)} nodes"

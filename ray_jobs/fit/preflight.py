"""Check a cluster before training: its nodes, their storage, and the communication of its workers."""

from __future__ import annotations

import secrets
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from ray import exceptions as lost
from ray.train import TrainingFailedError
from ray.train.torch import TorchConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pbrlib.curriculum.waves import phases_on_nodes
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.errors import OutageError, first_line
from pbrlib.rehearsal.checks import Check, Communication, data_readable, storage_shared
from pbrlib.rehearsal.node import DRIVERS_TOKEN, NodeFacts, inspect_node, read_token, write_token
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.fit.capacity import scaling_of, start_watch
from ray_jobs.fit.currentphase import CurrentPhase
from ray_jobs.fit.fit import causes
from ray_jobs.fit.raystorage import storage_of
from ray_jobs.fit.trainer import Trainer
from ray_jobs.rayinternals import FailureConfig

COLLECTIVE_TIMEOUT_S = 120
"""Time that ranks wait for each other before the check fails."""

INSPECT_TIMEOUT_S = 120
"""Time in which a node must inspect its storage and data; an unreachable network share hangs forever."""

ROUNDS = 5


def check_collectives(runtime: RuntimeSpec, *, scratch: Path, gradient_bytes: int) -> Communication:
    """Start the workers of a fit, all-reduce a gradient a few times, and end them.

    An autoscaling cluster adds its nodes here.
    """
    backend = "nccl" if runtime.device == "cuda" else "gloo"
    trainer = Trainer(
        _sum_gradients,  # type: ignore[arg-type]  # Ray annotates it as returning None, but passes on its result
        train_loop_config={"bytes": gradient_bytes},
        torch_config=TorchConfig(backend=backend, timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=scaling_of(runtime),
        run_config=ray.train.RunConfig(
            name="talk",
            **storage_of(scratch),
            callbacks=[start_watch(runtime, current=CurrentPhase(Path("rehearsal/talk")))],  # type: ignore[list-item]
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=-1),
        ),
    )
    try:
        result: Any = trainer.fit()
    except TrainingFailedError as error:
        return Communication(backend, world=runtime.workers, error=first_failure(error))
    return Communication(backend, world=runtime.workers, **result.return_value)


def _sum_gradients(config: Mapping[str, Any]) -> dict[str, Any]:
    """All-reduce a gradient several times on every rank; the first one connects them and is not timed."""
    device, world = ray.train.torch.get_device(), dist.get_world_size()
    hosts: list[str] = [""] * world
    dist.all_gather_object(hosts, socket.gethostname())
    values = torch.empty(max(config["bytes"] // 4, 1), device=device)
    seconds, right = [], True
    for _ in range(ROUNDS + 1):
        values.fill_(dist.get_rank() + 1)
        dist.barrier()
        began = time.monotonic()
        dist.all_reduce(values)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.monotonic() - began)
        right = right and bool((values == world * (world + 1) / 2).all())
    agreed = torch.tensor([float(right)], device=device)
    dist.all_reduce(agreed, op=dist.ReduceOp.MIN)
    return {
        "hosts": tuple(hosts),
        "bytes": values.nbytes,
        "seconds": statistics.median(seconds[1:]),
        "right": bool(agreed.item()),
    }


def inspect_nodes(place: Path, *, data: DataSpec) -> tuple[list[NodeFacts], dict[str, str]]:
    """Return the facts of every node that is up, and the token that each should write below ``place``."""
    token = secrets.token_hex(8)
    write_token(place, token)
    nodes = alive()
    own = {node["NodeID"]: secrets.token_hex(8) for node in nodes}
    inspect: Any = ray.remote(inspect_node)  # type: ignore[arg-type]
    asked = [
        inspect.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(place, node=node, token=word, data=data)
        for node, word in own.items()
    ]
    _, missing = ray.wait(asked, num_returns=len(asked), timeout=INSPECT_TIMEOUT_S)
    if missing:
        hosts = [
            node["NodeManagerHostname"] for node, one in zip(nodes, asked, strict=True) if one in missing
        ]
        raise OutageError(
            f"{', '.join(hosts)}: got no answer within {INSPECT_TIMEOUT_S} s about {place} and {data}. "
            "Check there that both can be listed (`ls`), and in `ray list nodes` that the node is up. Then "
            "rehearse again."
        )
    try:
        found: list[NodeFacts] = ray.get(asked)
    except lost.RayError as error:
        if isinstance(error, lost.RayTaskError):
            raise
        raise OutageError(
            f"a node was lost while it inspected {place} and {data} ({first_line(error)}). `ray list nodes` "
            "shows which one. Then rehearse again."
        ) from error
    return found, own


def storage_and_data(
    scratch: Path, *, runs: Path, data: DataSpec, fingerprint: str
) -> tuple[list[NodeFacts], list[Check]]:
    """Inspect every node; return the facts, and the checks that all nodes see the same storage and data."""
    nodes, own = inspect_nodes(scratch, data=data)
    token = (scratch / DRIVERS_TOKEN).read_text()
    back = {node.node: read_token(scratch, node.node) for node in nodes}
    shared = storage_shared(nodes, place=str(runs), token=token, back=back, own=own)
    return nodes, [shared, data_readable(nodes, data=str(data), fingerprint=fingerprint)]


def alive() -> Sequence[Mapping[str, Any]]:
    """Return the nodes that are up."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def stores() -> dict[str, int]:
    """Return the bytes of the object store by node."""
    return {node["NodeID"]: round(node["Resources"].get("object_store_memory", 0)) for node in alive()}


def workers_on(runtime: RuntimeSpec) -> dict[str, int]:
    """Return the number of workers that fit on each node."""
    one = runtime.model_copy(update={"workers": 1})
    return {node["NodeID"]: phases_on_nodes([node["Resources"]], one) for node in alive()}


def first_failure(error: TrainingFailedError) -> str:
    """Return the last line of the error of the first worker that failed."""
    first = next(iter(causes(error)), error)
    lines = str(first).strip().splitlines()
    return lines[-1] if lines else type(first).__name__

"""What a cluster says of itself before a training: its nodes, their storage, and whether its workers talk."""

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

TALK_S = 120
"""How long ranks wait for each other before their silence counts as an answer."""

LOOK_S = 120
"""How long a node may take to look at its storage and data: a share that is away hangs without an end."""

ROUNDS = 5


def check_collectives(runtime: RuntimeSpec, *, scratch: Path, gradient_bytes: int) -> Communication:
    """Starts the workers of a fit, lets them sum a gradient a few times, and ends them.

    A cluster that grows by demand grows here.
    """
    backend = "nccl" if runtime.device == "cuda" else "gloo"
    trainer = Trainer(
        _talk,  # type: ignore[arg-type]  # Ray types it as returning nothing, and passes on what it returns
        train_loop_config={"bytes": gradient_bytes},
        torch_config=TorchConfig(backend=backend, timeout_s=TALK_S),
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


def _talk(config: Mapping[str, Any]) -> dict[str, Any]:
    """What every rank runs: the same sum several times, the first one to get to know each other."""
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
    """What every node that is up says of itself, and the token that each was to leave below ``place``."""
    token = secrets.token_hex(8)
    write_token(place, token)
    nodes = alive()
    own = {node["NodeID"]: secrets.token_hex(8) for node in nodes}
    look: Any = ray.remote(inspect_node)  # type: ignore[arg-type]
    asked = [
        look.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(place, node=node, token=word, data=data)
        for node, word in own.items()
    ]
    _, missing = ray.wait(asked, num_returns=len(asked), timeout=LOOK_S)
    if missing:
        hosts = [
            node["NodeManagerHostname"] for node, one in zip(nodes, asked, strict=True) if one in missing
        ]
        raise OutageError(
            f"{', '.join(hosts)}: did not say within {LOOK_S} s what it sees of {place} and {data}. See "
            "there whether both answer (`ls`), and in `ray list nodes` whether it is up; then rehearse again."
        )
    try:
        found: list[NodeFacts] = ray.get(asked)
    except lost.RayError as error:
        if isinstance(error, lost.RayTaskError):
            raise
        raise OutageError(
            f"a node was lost while it looked at {place} and {data} ({first_line(error)}). See `ray list "
            "nodes` for which; then rehearse again."
        ) from error
    return found, own


def storage_and_data(
    scratch: Path, *, runs: Path, data: DataSpec, fingerprint: str
) -> tuple[list[NodeFacts], list[Check]]:
    """Looks at every node; the checks of what all of them are to see alike."""
    nodes, own = inspect_nodes(scratch, data=data)
    token = (scratch / DRIVERS_TOKEN).read_text()
    back = {node.node: read_token(scratch, node.node) for node in nodes}
    shared = storage_shared(nodes, place=str(runs), token=token, back=back, own=own)
    return nodes, [shared, data_readable(nodes, data=str(data), fingerprint=fingerprint)]


def alive() -> Sequence[Mapping[str, Any]]:
    """The nodes that are up."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def stores() -> dict[str, int]:
    """Bytes of the object store by node."""
    return {node["NodeID"]: round(node["Resources"].get("object_store_memory", 0)) for node in alive()}


def workers_on(runtime: RuntimeSpec) -> dict[str, int]:
    """How many workers each node holds at once."""
    one = runtime.model_copy(update={"workers": 1})
    return {node["NodeID"]: phases_on_nodes([node["Resources"]], one) for node in alive()}


def first_failure(error: TrainingFailedError) -> str:
    """The last line of what the first worker that failed said."""
    first = next(iter(causes(error)), error)
    lines = str(first).strip().splitlines()
    return lines[-1] if lines else type(first).__name__

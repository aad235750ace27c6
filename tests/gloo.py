"""Runs several ranks on this machine, as processes with a gloo process group."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORLD = 2
LOADED = ["pbrlib.curriculum.run", "pbrlib.metrics.sums", "torchvision.ops"]
"""The modules that are imported once, before the ranks are forked."""


def run_ranks(main: Callable[..., None], *given: Any) -> None:
    """Call ``main(rank, *given)`` in a process for each of two ranks, and wait until they end.

    The ranks are forked from a server process that has imported torch and started no thread. The server keeps
    the environment of the first call.
    """
    multiprocessing.set_forkserver_preload(LOADED)
    mp.start_processes(main, args=given, nprocs=WORLD, start_method="forkserver")  # type: ignore[no-untyped-call]


@contextmanager
def gloo_rank(rank: int, *, folder: Path, world: int = WORLD) -> Iterator[None]:
    """Make this process a rank with one thread inside the block; the ranks rendezvous in ``folder``."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store, limit = f"file://{folder}/store", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=limit)
    try:
        yield
    finally:
        dist.destroy_process_group()

"""Several ranks on this machine: processes that share a gloo process group."""

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
"""What ranks have imported before they begin, once for all of them."""


def run_ranks(main: Callable[..., None], *given: Any) -> None:
    """Calls ``main(rank, *given)`` in a process for each of two ranks, and waits for their ends.

    They are copies of one process that has torch and starts no thread. It keeps the environment in which the
    first ranks began.
    """
    multiprocessing.set_forkserver_preload(LOADED)
    mp.start_processes(main, args=given, nprocs=WORLD, start_method="forkserver")  # type: ignore[no-untyped-call]


@contextmanager
def gloo_rank(rank: int, *, folder: Path, world: int = WORLD) -> Iterator[None]:
    """Makes this process one of them, with one thread, for the block; they meet in ``folder``."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store, limit = f"file://{folder}/store", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=limit)
    try:
        yield
    finally:
        dist.destroy_process_group()

"""Pass consecutive phases from a command to the workers of one fit.

The process of the actor imports this module, so it imports neither torch nor Ray Train. The jobs stay
pickled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray


class Relay:
    """The jobs of one fit in their order, and the ranks that have finished the newest of them."""

    def __init__(self) -> None:
        self._jobs: list[bytes] = []
        self._finished: set[int] = set()
        self._num_ranks: int | None = None
        self._is_closed = False
        self._controller: Any = None
        self._changed = asyncio.Condition()

    async def add(self, job: bytes) -> int:
        """Append a job, and return its number; all ranks have finished those before it."""
        async with self._changed:
            self._jobs.append(job)
            self._finished.clear()
            self._changed.notify_all()
            return len(self._jobs) - 1

    async def close(self) -> None:
        """Let the workers end once they have finished the last job."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def begin_attempt(self, *, num_ranks: int) -> int:
        """Return the number of the job with which new workers begin: the newest."""
        async with self._changed:
            self._num_ranks = num_ranks
            self._finished.clear()
            return len(self._jobs) - 1

    async def job(self, number: int) -> bytes | None:
        """Wait for a job, and return it; None if the relay was closed before it came."""
        async with self._changed:
            await self._changed.wait_for(lambda: number < len(self._jobs) or self._is_closed)
            return self._jobs[number] if number < len(self._jobs) else None

    async def finish(self, number: int, *, rank: int) -> None:
        """Record that a rank has finished a job; workers that start anew may finish an old one again."""
        async with self._changed:
            if number == len(self._jobs) - 1:
                self._finished.add(rank)
                self._changed.notify_all()

    async def wait_until_finished(self, number: int) -> None:
        """Wait until every rank has finished a job."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: number < len(self._jobs) - 1 or len(self._finished) == self._num_ranks
            )

    async def set_controller(self, controller: Any) -> None:
        """Store the handle of the actor that leads the fit."""
        self._controller = controller

    async def controller(self) -> Any:
        """Return the handle of the actor that leads the fit; None before it has started."""
        return self._controller


def start_relay() -> Any:
    """Start a relay on the node of this process, and return its handle."""
    from ray_jobs.rayinternals import NODE_LABEL

    here = ray.get_runtime_context().get_node_id()
    return ray.remote(Relay).options(num_cpus=0, label_selector={NODE_LABEL: here}).remote()

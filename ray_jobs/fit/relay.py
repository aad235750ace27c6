"""Pass consecutive phases from a command to the workers of one fit.

The process of the actor imports this module, so it imports no torch, and the jobs that it holds stay pickled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train.collective import broadcast_from_rank_zero

from ray_jobs.rayinternals import NODE_LABEL, ControllerCallback

if TYPE_CHECKING:
    from pbrlib.curriculum.run import PhaseJob


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
    here = ray.get_runtime_context().get_node_id()
    return ray.remote(Relay).options(num_cpus=0, label_selector={NODE_LABEL: here}).remote()


class ControllerToRelay(ControllerCallback):
    """Hands the controller of a fit to its relay, so that the command can end the fit."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def after_controller_start(self, train_run_context: Any) -> None:
        """Store the handle; runs in the controller."""
        self._relay.set_controller.remote(ray.get_runtime_context().current_actor)


def jobs_of(relay: Any) -> Iterator[PhaseJob]:
    """Yield the jobs of a relay on a worker, from the newest on; the ranks begin with the same one.

    A job counts as finished when the next one is asked for. Ends when the relay is closed or lost.
    """
    context = ray.train.get_context()
    rank = context.get_world_rank()
    try:
        first = None
        if rank == 0:
            first = ray.get(relay.begin_attempt.remote(num_ranks=context.get_world_size()))
        number = broadcast_from_rank_zero(first)
        assert number is not None
        while (job := ray.get(relay.job.remote(number))) is not None:
            yield ray.cloudpickle.loads(job)
            ray.get(relay.finish.remote(number, rank=rank))
            number += 1
    except RayActorError:
        # The command or its node is gone.
        return

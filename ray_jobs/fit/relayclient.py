"""The sides of the controller and of the workers of a fit that is connected to a relay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train.collective import broadcast_from_rank_zero

from ray_jobs.rayinternals import ControllerCallback

if TYPE_CHECKING:
    from pbrlib.curriculum.run import PhaseJob


class ControllerToRelay(ControllerCallback):
    """Pass the controller of a fit to its relay, so that the command can end the fit."""

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

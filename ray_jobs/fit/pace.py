"""Keeps Ray Data's scheduler from spinning inside the training process, and sees what it does."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ray_jobs.rayinternals import ExecutionCallback

STEP_S = 0.02


class Pace(ExecutionCallback):
    """Sleeps at every step of the scheduler's loop.

    The loop waits on running tasks only. While a stream is as far ahead as it may be, none runs, and the loop
    (Ray 2.60) goes round without a pause, holding the interpreter's lock for four fifths of the time.
    """

    tasks: ClassVar[int | None] = None
    """The tasks that the stream of this process had at work at its last look; None before the first one."""

    def on_execution_step(self, executor: Any) -> None:
        """One step schedules all that is ready, so fifty steps a second are plenty."""
        Pace.tasks = sum(operator.num_active_tasks() for operator in executor._topology or ())
        time.sleep(STEP_S)

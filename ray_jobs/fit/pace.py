"""Keeps Ray Data's scheduler from spinning inside the training process, and sees what it does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from ray.data._internal.execution.execution_callback import ExecutionCallback

if TYPE_CHECKING:
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

STEP_S = 0.02


class Pace(ExecutionCallback):
    """Sleeps at every step of the scheduler's loop.

    The loop waits on running tasks only. While a stream is as far ahead as it may be, none runs, and the loop
    (Ray 2.60) goes round without a pause, holding the interpreter's lock for four fifths of the time.
    """

    tasks: ClassVar[int | None] = None
    """The tasks that the stream of this process had at work at its last look; None before the first one."""

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """One step schedules all that is ready, so fifty steps a second are plenty."""
        Pace.tasks = sum(operator.num_active_tasks() for operator in executor._topology or ())
        time.sleep(STEP_S)

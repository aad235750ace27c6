"""Keep Ray Data's scheduler from spinning in the training process, and count its tasks."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from ray_jobs.rayinternals import ExecutionCallback

STEP_S = 0.02


class Pace(ExecutionCallback):
    """Sleeps at every step of the scheduler's loop.

    The loop of Ray 2.60 waits for running tasks only. While the stream has prefetched enough, no task
    runs, and without a pause the loop holds the interpreter's lock four fifths of the time.
    """

    tasks: ClassVar[int | None] = None
    """The number of running tasks at the last step of the scheduler; None before the first one."""

    def on_execution_step(self, executor: Any) -> None:
        """Count the tasks and sleep: a step schedules all that is ready, so fifty a second are enough."""
        Pace.tasks = sum(operator.num_active_tasks() for operator in executor._topology or ())
        time.sleep(STEP_S)

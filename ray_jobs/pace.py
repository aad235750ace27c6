"""Keeps Ray Data's scheduler from spinning inside the training process."""

from __future__ import annotations

import time

from ray.data._internal.execution.execution_callback import ExecutionCallback

STEP_S = 0.02


class Pace(ExecutionCallback):
    """Sleeps at every step of the scheduler's loop.

    The loop waits on running tasks only. While a stream is as far ahead as it may be, none runs, and the loop
    (Ray 2.60) goes round without a pause, holding the interpreter's lock for four fifths of the time.
    """

    def on_execution_step(self, executor: object) -> None:
        """One step schedules all that is ready, so fifty steps a second are plenty."""
        time.sleep(STEP_S)

"""Polls for preemption notices every few seconds, on all ranks after the same step."""

from __future__ import annotations

import time

from pbrlib.train.runtime import Runtime

ASK_EVERY_S = 5.0
"""Seconds between polls; a spot instance gives two minutes, in which a long step may have to end first."""
ASK_EVERY_STEPS = 20
"""Largest number of steps between two polls, since the next steps may take longer."""


class Notices:
    """Polls the runtime for preemption; not at every step, since a poll is a barrier of some milliseconds."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._every, self._left = runtime, 1, 1
        self._asked = time.monotonic()

    def is_new(self) -> bool:
        """Return whether there is a new notice; all ranks call this after each step."""
        self._left -= 1
        if self._left > 0:
            return False
        now = time.monotonic()
        slowest_s = max(float(seconds) for (seconds,) in self._runtime.gather([repr(now - self._asked)]))
        steps = self._every * ASK_EVERY_S / max(slowest_s, 1e-9)
        self._every = self._left = int(min(max(steps, 1), ASK_EVERY_STEPS))
        self._asked = now
        return self._runtime.is_preempted()

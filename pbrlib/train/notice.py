"""When to ask whether a node will be taken away: every few seconds, all ranks after the same step."""

from __future__ import annotations

import time

from pbrlib.train.runtime import Runtime

ASK_EVERY_S = 5.0
"""A spot instance's notice is two minutes, in which a long step may have to end first."""
ASK_EVERY_STEPS = 20
"""At most so many steps lie between two questions: the next ones may take longer."""


class Notices:
    """Asks the runtime now and then, since each question is a barrier of some milliseconds over the ranks."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._every, self._left = runtime, 1, 1
        self._asked = time.monotonic()

    def came(self) -> bool:
        """To be called after each step, on all ranks; whether there is a notice that was not told yet."""
        self._left -= 1
        if self._left > 0:
            return False
        now = time.monotonic()
        slowest_s = max(float(seconds) for (seconds,) in self._runtime.gather([repr(now - self._asked)]))
        steps = self._every * ASK_EVERY_S / max(slowest_s, 1e-9)
        self._every = self._left = int(min(max(steps, 1), ASK_EVERY_STEPS))
        self._asked = now
        return self._runtime.is_preempted()

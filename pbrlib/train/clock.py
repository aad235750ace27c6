"""Where the wall time of training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pbrlib.data.batch import RawBatch
from pbrlib.data.plan import DrawPlan


@dataclass
class Clock:
    """Where the wall time of a segment goes, in seconds."""

    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    samples: int = 0

    def next(self, batches: Iterator[RawBatch]) -> RawBatch:
        """The next batch, the wait for it on the account."""
        asked = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - asked
        return batch

    def figures(self) -> dict[str, float]:
        """Throughput in samples per second (global) and the share of time spent waiting for input."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        return {"samples_per_s": self.samples / elapsed, "input_stall": self.waited / elapsed}

    def seconds_left(self, plan: DrawPlan, step: int) -> float:
        """What the rest of the phase takes at the pace of this segment, in seconds."""
        return (plan.total_steps - step) * plan.batch / self.figures()["samples_per_s"]

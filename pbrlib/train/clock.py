"""Where the wall time of training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.plan import DrawPlan

Aside = Literal["input", "validation", "checkpoint"]
"""What takes time beside the steps themselves."""


@dataclass
class Clock:
    """Where the wall time of a segment goes, in seconds."""

    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    samples: int = 0
    steps: int = 0
    _seen: tuple[float, int] | None = None
    _aside: dict[str, float] = field(default_factory=dict)

    def next(self, batches: Iterator[RawBatch]) -> RawBatch:
        """The next batch, the wait for it on the account."""
        before = self._aside.get("input", 0.0)
        with self.spending("input"):
            batch = next(batches)
        self.waited += self._aside["input"] - before
        return batch

    @contextmanager
    def spending(self, what: Aside) -> Iterator[None]:
        """Puts the time of the block on the account of ``what``."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._aside[what] = self._aside.get(what, 0.0) + time.monotonic() - began

    def spent_aside(self) -> dict[str, float]:
        """What went elsewhere than into steps since this was asked last."""
        spent, self._aside = self._aside, {}
        return spent

    def figures(self) -> dict[str, float]:
        """Throughput in samples per second (global) and the share of time spent waiting for input."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        return {"samples_per_s": self.samples / elapsed, "input_stall": self.waited / elapsed}

    def step_s(self) -> float:
        """Seconds a step since this was asked last, its wait for input included."""
        before, steps = self._seen or (self.started, 0)
        now = time.monotonic()
        self._seen = now, self.steps
        return (now - before) / max(self.steps - steps, 1)

    def seconds_left(self, plan: DrawPlan, step: int) -> float:
        """What the rest of the phase takes at the pace of this segment, in seconds."""
        return (plan.total_steps - step) * plan.batch / self.figures()["samples_per_s"]

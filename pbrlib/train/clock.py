"""Where the wall time of training goes, and how long the rest of a phase takes at its pace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pbrlib.data.draws.batch import RawBatch

Aside = Literal["input", "validation", "checkpoint"]
"""What takes time beside the steps themselves."""

STEADY_STEPS, STEADY_S = 10, 1.0
"""An estimate needs as many steps, or steps of as many seconds, as one of these says."""


@dataclass
class Pace:
    """Steps and what they took, in seconds; ``waited`` is the part of it that was spent waiting for input."""

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def is_steady(self) -> bool:
        """Whether there is enough of it to judge the rest of a phase by."""
        return self.steps >= STEADY_STEPS or self.seconds >= STEADY_S

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return self.seconds / max(self.steps, 1)

    def add(self, *, samples: int, seconds: float, waited: float) -> None:
        """Count one step."""
        self.steps, self.samples = self.steps + 1, self.samples + samples
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited


class Clock:
    """Where the wall time of one attempt at a phase goes.

    The wait for its first batch is start-up, not input, and its first step compiles, allocates and connects
    the ranks: neither is part of a pace, but where there is no other step yet.
    """

    def __init__(self) -> None:
        self._first_step: Pace | None = None
        self._segment, self._attempt, self._shown = Pace(), Pace(), Pace()
        self._step_began, self._waited = time.monotonic(), 0.0
        self._validations, self._paused_s = 0, 0.0
        self._aside: dict[str, float] = {}

    def begin_segment(self) -> None:
        """Measures throughput anew; the pace of the attempt stays known."""
        self._segment, self._step_began = Pace(), time.monotonic()

    def next(self, batches: Iterator[RawBatch]) -> RawBatch:
        """The next batch, the wait for it on the account of the step that it is for."""
        before = self._aside.get("input", 0.0)
        with self.spending("input"):
            batch = next(batches)
        self._waited = self._aside["input"] - before
        if self._first_step is None:
            self._step_began, self._waited = time.monotonic(), 0.0
        return batch

    def end_step(self, *, samples: int) -> None:
        """Counts the step of the batch that was given last; ``samples`` are those of the global batch."""
        now = time.monotonic()
        seconds, waited = now - self._step_began, self._waited
        self._step_began, self._waited = now, 0.0
        if self._first_step is None:
            self._first_step = Pace(1, samples, seconds)
            return
        for pace in (self._segment, self._attempt, self._shown):
            pace.add(samples=samples, seconds=seconds, waited=waited)

    @contextmanager
    def spending(self, what: Aside) -> Iterator[None]:
        """Puts the time of the block on the account of ``what``; of a step only the input is a part."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self._aside[what] = self._aside.get(what, 0.0) + seconds
            if what != "input":
                self._step_began, self._paused_s = self._step_began + seconds, self._paused_s + seconds
                self._validations += what == "validation"

    def spent_aside(self) -> dict[str, float]:
        """What went elsewhere than into steps since this was asked last."""
        spent, self._aside = self._aside, {}
        return spent

    def figures(self) -> dict[str, float]:
        """Samples a second (global) and the share of time spent waiting for input, in this segment."""
        pace = self._or_first_step(self._segment)
        elapsed = max(pace.seconds, 1e-9)
        return {"samples_per_s": pace.samples / elapsed, "input_stall": pace.waited / elapsed}

    def step_s(self) -> float:
        """Seconds of a step since this was asked last, its wait for input included."""
        shown, self._shown = self._shown, Pace()
        return self._or_first_step(shown).step_s

    def seconds_left(self, *, steps: int, validations: int) -> float | None:
        """What the rest of a phase takes: its steps, and its validations with their checkpoints.

        By the pace of this segment, or of the whole attempt while the segment is young. None while neither is
        steady. Until the first validation is over, what one takes is not known and not counted.
        """
        if steps == 0:
            return 0.0
        pace = self._segment if self._segment.is_steady else self._attempt
        if not pace.is_steady:
            return None
        return steps * pace.step_s + validations * self._paused_s / max(self._validations, 1)

    def _or_first_step(self, pace: Pace) -> Pace:
        return pace if pace.steps or self._first_step is None else self._first_step

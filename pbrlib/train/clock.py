"""Measures the wall time of training and estimates the remaining time of a phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pbrlib.data.draws.batch import RawBatch

NonStep = Literal["input", "validation", "checkpoint"]
"""An activity besides the steps whose time is measured."""

STEADY_STEPS, STEADY_S = 10, 1.0
"""An estimate needs this many steps, or steps that took this many seconds in total."""


@dataclass
class Pace:
    """A number of steps with their duration in seconds; ``waited`` is the part spent waiting for input."""

    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def is_steady(self) -> bool:
        """Whether there are enough steps for an estimate of the remaining time."""
        return self.steps >= STEADY_STEPS or self.seconds >= STEADY_S

    @property
    def step_s(self) -> float:
        """Mean seconds per step."""
        return self.seconds / max(self.steps, 1)

    def add(self, *, samples: int, seconds: float, waited: float) -> None:
        """Count one step."""
        self.steps, self.samples = self.steps + 1, self.samples + samples
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited


class Clock:
    """Measures where the wall time of one attempt at a phase is spent.

    The wait for the first batch belongs to the start-up, and the first step compiles, allocates and connects
    the ranks. Both are excluded from the pace unless there is no other step yet.
    """

    def __init__(self) -> None:
        self._first_step: Pace | None = None
        self._segment, self._attempt, self._shown = Pace(), Pace(), Pace()
        self._step_began, self._waited = time.monotonic(), 0.0
        self._validations, self._paused_s = 0, 0.0
        self._non_step: dict[str, float] = {}

    def begin_segment(self) -> None:
        """Start the throughput of a new segment; the pace of the attempt is kept."""
        self._segment, self._step_began = Pace(), time.monotonic()

    def next(self, batches: Iterator[RawBatch]) -> RawBatch:
        """Return the next batch and add the wait for it to its step."""
        before = self._non_step.get("input", 0.0)
        with self.spending("input"):
            batch = next(batches)
        self._waited = self._non_step["input"] - before
        if self._first_step is None:
            self._step_began, self._waited = time.monotonic(), 0.0
        return batch

    def end_step(self, *, samples: int) -> None:
        """Count the step of the latest batch; ``samples`` is the size of the global batch."""
        now = time.monotonic()
        seconds, waited = now - self._step_began, self._waited
        self._step_began, self._waited = now, 0.0
        if self._first_step is None:
            self._first_step = Pace(1, samples, seconds)
            return
        for pace in (self._segment, self._attempt, self._shown):
            pace.add(samples=samples, seconds=seconds, waited=waited)

    @contextmanager
    def spending(self, what: NonStep) -> Iterator[None]:
        """Add the time of the block to ``what``; only input counts as a part of the step."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self._non_step[what] = self._non_step.get(what, 0.0) + seconds
            if what != "input":
                self._step_began, self._paused_s = self._step_began + seconds, self._paused_s + seconds
                self._validations += what == "validation"

    def take_non_step_seconds(self) -> dict[str, float]:
        """Return the seconds by activity since the last call, and reset them."""
        spent, self._non_step = self._non_step, {}
        return spent

    def figures(self) -> dict[str, float]:
        """Return this segment's samples per second (global) and its share of time spent waiting for input."""
        pace = self._or_first_step(self._segment)
        elapsed = max(pace.seconds, 1e-9)
        return {"samples_per_s": pace.samples / elapsed, "input_stall": pace.waited / elapsed}

    def step_s(self) -> float:
        """Return the mean seconds per step since the last call, including the wait for input."""
        shown, self._shown = self._shown, Pace()
        return self._or_first_step(shown).step_s

    def seconds_left(self, *, steps: int, validations: int) -> float | None:
        """Estimate the seconds of the remaining steps, validations and checkpoints of a phase.

        Uses the pace of this segment, or of the whole attempt until the segment's is steady; None until
        one of them is steady. Validations are not counted until the first one has been measured.
        """
        if steps == 0:
            return 0.0
        pace = self._segment if self._segment.is_steady else self._attempt
        if not pace.is_steady:
            return None
        return steps * pace.step_s + validations * self._paused_s / max(self._validations, 1)

    def _or_first_step(self, pace: Pace) -> Pace:
        return pace if pace.steps or self._first_step is None else self._first_step

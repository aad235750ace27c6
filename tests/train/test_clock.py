"""Tests of throughput and remaining time with a fake clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pbrlib.train import clock
from pbrlib.train.clock import Clock

BATCH = 6


class Time:
    """A clock whose time the test advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.now)
        self.clock = Clock()

    def step(self, *, wait_s: float = 0.0, work_s: float = 0.0) -> None:
        """Wait for a batch and then run a step."""
        self.clock.next(self._waiting(wait_s))
        self.now += work_s
        self.clock.end_step(samples=BATCH)

    def _waiting(self, seconds: float) -> Iterator[None]:
        self.now += seconds
        yield None

    def pause(self, *, validation_s: float, checkpoint_s: float) -> None:
        """End a segment."""
        with self.clock.spending("validation"):
            self.now += validation_s
        with self.clock.spending("checkpoint"):
            self.now += checkpoint_s
        self.clock.begin_segment()

    def left(self, *, steps: int = 100, validations: int = 0) -> float | None:
        return self.clock.seconds_left(steps=steps, validations=validations)


@pytest.fixture
def attempt(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def test_the_first_line_excludes_the_start_up_and_has_no_estimate(attempt: Time) -> None:
    attempt.now += 20.0  # networks are built
    attempt.step(wait_s=15.0, work_s=3.0)
    assert attempt.clock.figures() == {"samples_per_s": 2.0, "input_stall": 0.0}
    assert attempt.left() is None
    assert attempt.clock.step_s() == 3.0


def test_the_first_step_is_excluded_from_the_pace(attempt: Time) -> None:
    attempt.step(wait_s=15.0, work_s=30.0)
    for _ in range(4):
        attempt.step(wait_s=0.1, work_s=0.4)
    assert attempt.clock.figures() == pytest.approx({"samples_per_s": 12.0, "input_stall": 0.2})
    assert attempt.clock.step_s() == pytest.approx(0.5)
    assert attempt.left() == pytest.approx(50.0)


@pytest.mark.parametrize(("work_s", "needed"), [(0.001, 10), (0.3, 4), (2.0, 1)])
def test_ten_steady_steps_or_a_second_of_them_make_an_estimate(
    attempt: Time, work_s: float, needed: int
) -> None:
    attempt.step(work_s=60.0)
    for _ in range(needed - 1):
        attempt.step(work_s=work_s)
        assert attempt.left() is None
    attempt.step(work_s=work_s)
    assert attempt.left() == pytest.approx(100 * work_s)


def test_the_pace_is_kept_after_a_validation_and_remaining_validations_are_added(attempt: Time) -> None:
    for _ in range(12):
        attempt.step(work_s=0.5)
    assert attempt.left(validations=3) == pytest.approx(50.0)
    attempt.pause(validation_s=7.0, checkpoint_s=1.0)
    assert attempt.left(validations=3) == pytest.approx(50.0 + 3 * 8.0)
    attempt.step(wait_s=0.2, work_s=0.2)
    assert attempt.clock.figures() == pytest.approx({"samples_per_s": 15.0, "input_stall": 0.5})
    attempt.step(work_s=0.4)
    attempt.step(work_s=0.4)
    assert attempt.left(validations=0) == pytest.approx(40.0), "the new segment is steady, and quicker"


def test_a_checkpoint_between_two_steps_is_counted_in_neither(attempt: Time) -> None:
    for _ in range(3):
        attempt.step(work_s=1.0)
    with attempt.clock.spending("checkpoint"):
        attempt.now += 30.0
    attempt.step(work_s=1.0)
    assert attempt.clock.figures()["samples_per_s"] == pytest.approx(BATCH)
    assert attempt.left() == pytest.approx(100.0)


def test_a_resumed_phase_starts_without_an_estimate(monkeypatch: pytest.MonkeyPatch, attempt: Time) -> None:
    for _ in range(20):
        attempt.step(work_s=1.0)
    again = Time(monkeypatch)
    again.step(wait_s=40.0, work_s=5.0)
    assert (again.left(), again.clock.figures()["input_stall"]) == (None, 0.0)


def test_no_time_remains_at_the_last_step(attempt: Time) -> None:
    attempt.step(work_s=1.0)
    assert attempt.left(steps=0) == 0.0

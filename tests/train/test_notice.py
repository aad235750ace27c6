"""Tests how often a phase polls for preemption, by the duration of its steps and equally on all ranks."""

from __future__ import annotations

import itertools

import pytest

from pbrlib.train import notice
from pbrlib.train.notice import Notices
from pbrlib.train.runtime import LocalRuntime


class Ranks(LocalRuntime):
    """A rank beside another whose steps take ``others_s`` longer; each poll finds a notice."""

    others_s = 0.0

    def gather(self, value: list[str]) -> list[list[str]]:
        return [value, [repr(float(value[0]) + self.others_s)]]

    def is_preempted(self) -> bool:
        return True


def asked_after(
    monkeypatch: pytest.MonkeyPatch, *, step_s: float, steps: int, others_s: float = 0
) -> list[int]:
    """Return the steps after which the runtime is polled."""
    times = itertools.count(0.0, step_s)
    runtime = object.__new__(Ranks)
    runtime.others_s = others_s
    now = [next(times)]
    monkeypatch.setattr(notice.time, "monotonic", lambda: now[0])
    notices, asked = Notices(runtime), []
    for step in range(1, steps + 1):
        now[0] = next(times)
        if notices.is_new():
            asked.append(step)
    return asked


def test_short_steps_are_polled_every_twentieth_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_after(monkeypatch, step_s=0.01, steps=50) == [1, 21, 41]


def test_long_steps_are_polled_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_after(monkeypatch, step_s=109.0, steps=4) == [1, 2, 3, 4]


def test_other_steps_are_polled_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_after(monkeypatch, step_s=1.0, steps=12) == [1, 6, 11]


def test_the_slowest_rank_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_after(monkeypatch, step_s=0.01, steps=3, others_s=7.0) == [1, 2, 3]

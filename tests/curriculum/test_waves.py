"""The order of a ladder: waves after each other, curricula of one in parallel if nodes are free."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.ladder import Ladder, LadderEntry
from pbrlib.curriculum.spec import Curriculum
from pbrlib.curriculum.waves import TrainPhases, phases_on_nodes, train_waves
from pbrlib.errors import GateError
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import ALBEDO

WAIT_S = 20.0


def ladder_of(*waves: str) -> Ladder:
    base = parse_curriculum(ALBEDO)
    return Ladder(
        tuple(
            tuple(LadderEntry(Path(f"{name}.yaml"), base.model_copy(update={"name": name})) for name in wave)
            for wave in waves
        )
    )


class Log:
    """The training of a ladder that only records when phases begin and end."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.running = self.max_running = 0
        self.lock = threading.Lock()

    def carry(
        self, curriculum: Curriculum, phase: str, act: Callable[[str], None] = lambda name: None
    ) -> None:
        name = curriculum.name + phase
        with self.lock:
            self.events.append(f"{name} begins")
            self.running += 1
            self.max_running = max(self.max_running, self.running)
        try:
            act(name)
        finally:
            with self.lock:
                self.running -= 1
                self.events.append(f"{name} ends")

    def begun(self) -> list[str]:
        return [event.split()[0] for event in self.events if event.endswith("begins")]


def each(carry: Callable[[Curriculum, str], None]) -> TrainPhases:
    """Return a function that trains the phases of a curriculum one by one."""

    def all_of(curriculum: Curriculum, phases: Iterator[str]) -> None:
        for phase in phases:
            carry(curriculum, phase)

    return all_of


def phases_of(ladder: Ladder) -> dict[str, tuple[str, ...]]:
    return {curriculum.name: ("0", "1") for curriculum in ladder.curricula}


def test_curricula_of_a_wave_train_in_parallel_if_the_capacity_allows() -> None:
    ladder, log, both = ladder_of("ab"), Log(), threading.Barrier(2, timeout=WAIT_S)
    # Each first phase ends only when the other has begun.
    train_waves(
        ladder,
        each(lambda curriculum, phase: log.carry(curriculum, phase, lambda name: both.wait() and None)),
        phases=phases_of(ladder),
        capacity=lambda: 2,
    )
    assert log.max_running == 2
    assert sorted(log.begun()) == ["a0", "a1", "b0", "b1"]


@pytest.mark.parametrize(("max_parallel", "expected"), [(1, 1), (2, 2), (3, 3), (9, 4)])
def test_no_more_curricula_train_at_once_than_the_capacity(max_parallel: int, expected: int) -> None:
    ladder, log = ladder_of("abcd"), Log()
    full = threading.Barrier(expected, timeout=WAIT_S)

    def carry(curriculum: Curriculum, phase: str) -> None:
        # The first curricula wait for each other, so that this many train at once.
        first = curriculum.name in "abcd"[:expected] and phase == "0"
        log.carry(curriculum, phase, lambda name: (full.wait() if first else time.sleep(0.01)) and None)

    train_waves(ladder, each(carry), phases=phases_of(ladder), capacity=lambda: max_parallel)
    assert log.max_running == expected
    assert len(log.begun()) == 8
    for name in "abcd":
        own = [event for event in log.events if event.startswith(name)]
        assert own == [f"{name}0 begins", f"{name}0 ends", f"{name}1 begins", f"{name}1 ends"]


def test_without_capacity_curricula_train_in_order_in_this_thread() -> None:
    ladder, log, threads = ladder_of("ab", "c"), Log(), set()
    train_waves(
        ladder,
        each(
            lambda curriculum, phase: log.carry(
                curriculum, phase, lambda name: threads.add(threading.current_thread())
            )
        ),
        phases=phases_of(ladder),
        capacity=lambda: 1,
    )
    assert log.begun() == ["a0", "a1", "b0", "b1", "c0", "c1"]
    assert threads == {threading.main_thread()}


def test_a_wave_starts_after_the_previous_wave_has_ended() -> None:
    ladder, log = ladder_of("a", "bc", "de"), Log()
    slow = {"a1", "b1", "c0"}
    train_waves(
        ladder,
        each(
            lambda curriculum, phase: log.carry(
                curriculum, phase, lambda name: time.sleep(0.1 if name in slow else 0.0)
            )
        ),
        phases=phases_of(ladder),
        capacity=lambda: 2,
    )
    waves = [sum(name[0] in wave for wave in ("bcde", "de")) for name in log.begun()]
    assert waves == sorted(waves)
    last_of_second = max(log.events.index(f"{name}1 ends") for name in "bc")
    assert all(log.events.index(f"{name}0 begins") > last_of_second for name in "de")


def test_after_a_failure_running_phases_end_and_no_other_starts() -> None:
    ladder, log = ladder_of("abc", "d"), Log()
    failed = threading.Event()

    def act(name: str) -> None:
        if name == "a0":
            assert b_runs.wait(WAIT_S)
            failed.set()
            raise GateError("a0 is not good enough")
        if name == "b0":
            b_runs.set()
            assert failed.wait(WAIT_S)
            time.sleep(0.2)
            raise ValueError("b0 fails too, later")

    b_runs = threading.Event()
    with pytest.raises(GateError, match="a0 is not good enough"):
        train_waves(
            ladder,
            each(lambda curriculum, phase: log.carry(curriculum, phase, act)),
            phases=phases_of(ladder),
            capacity=lambda: 2,
        )
    assert sorted(log.begun()) == ["a0", "b0"], "neither a1, b1, c nor the next wave"
    assert "b0 ends" in log.events


def test_capacity_is_read_when_a_wave_of_several_curricula_starts() -> None:
    ladder, log, asked = ladder_of("a", "bc", "d", "ef"), Log(), []

    def capacity() -> int:
        asked.append(len(log.begun()))
        return 1

    train_waves(ladder, each(log.carry), phases=phases_of(ladder), capacity=capacity)
    assert asked == [2, 8]


@pytest.mark.parametrize(
    ("nodes", "runtime", "num_phases"),
    [
        ([{"CPU": 4.0}], {"workers": 2}, 1),
        ([{"CPU": 8.0}], {"workers": 2}, 2),
        ([{"CPU": 7.9}], {"workers": 2}, 1),
        ([{"CPU": 1.0}], {"workers": 2}, 0),
        ([{"CPU": 12.0}, {"CPU": 12.0}], {"workers": 2, "cpus_per_worker": 2, "data_cpus": 4}, 2),
        ([{"CPU": 16.0, "GPU": 4.0}], {"workers": 1, "device": "cuda"}, 4),
        ([{"CPU": 4.0, "GPU": 4.0}], {"workers": 1, "device": "cuda"}, 2),
        ([{"CPU": 64.0}, {"CPU": 64.0, "GPU": 4.0}], {"workers": 4, "device": "cuda"}, 1),
        # The GPUs are on a node whose CPUs suffice for one worker only.
        (
            [{"CPU": 64.0}, {"CPU": 2.0, "GPU": 4.0}],
            {"workers": 1, "cpus_per_worker": 2, "device": "cuda"},
            0,
        ),
        ([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}], {"workers": 4, "device": "cuda"}, 4),
        ([{"CPU": 8.0}], {"workers": 4, "min_workers": 1}, 1),
        ([{"CPU": 4.0}], {"workers": 4, "min_workers": 1}, 0),
    ],
)
def test_capacity_counts_full_phases(
    nodes: list[dict[str, float]], runtime: dict[str, object], num_phases: int
) -> None:
    assert phases_on_nodes(nodes, RuntimeSpec.model_validate(runtime)) == num_phases

"""The start of a fit ends when its search for resources takes too long, or when a worker dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions as lost
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)
from ray.train.v2._internal.execution.controller.state import (
    FinishedState,
    InitializingState,
    ReschedulingState,
    RestartingState,
    RunningState,
    SchedulingState,
    ShuttingDownState,
    TrainControllerState,
)
from ray.train.v2._internal.execution.scaling_policy import NoopDecision
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from pbrlib import storage
from pbrlib.errors import OutageError
from pbrlib.train.record.timesheet import TIME_SHEET
from ray_jobs.fit.currentphase import CurrentPhase
from ray_jobs.fit.failures import WorkerFailedError
from ray_jobs.fit.starting import StartStages, StartWatch

CURRENT = CurrentPhase(Path("runs/albedo/A1-0"))
IN_VAIN = ReschedulingState(ControllerError(WorkerGroupStartupTimeoutError(2)))
SEARCH = SchedulingState(NoopDecision())
LOST = RestartingState(WorkerGroupError("lost", {0: lost.RayActorError(error_msg="died")}))

Visit = Callable[[TrainControllerState], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The watch's time in seconds, set by the test, and how long it has paused."""
    clock = SimpleNamespace(now=1000.0, paused=0.0)

    def sleep(seconds: float) -> None:
        clock.paused += seconds

    monkeypatch.setattr(
        "ray_jobs.fit.starting.time",
        SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep, time=time.time),
    )
    return clock


@pytest.fixture
def visit() -> Visit:
    """Brings the controller into a state, as Ray does."""
    watch, states = (
        StartWatch(patience_s=100.0, current=CURRENT, complaint="no place."),
        [InitializingState()],
    )

    def visit(state: Any) -> None:
        states.append(state)
        watch.after_controller_state_update(*states[-2:])

    return visit


def test_looks_in_vain_end_a_fit_once_its_time_is_over(clock: SimpleNamespace, visit: Visit) -> None:
    visit(SEARCH)
    clock.now += 99
    visit(IN_VAIN)
    visit(SEARCH)
    clock.now += 2
    with pytest.raises(OutageError, match="albedo/A1-0: no place"):
        visit(IN_VAIN)
    assert clock.paused == 0.0


def test_every_search_has_the_whole_time(clock: SimpleNamespace, visit: Visit) -> None:
    for _ in range(3):
        visit(SEARCH)
        clock.now += 99
        visit(IN_VAIN)
        visit(SEARCH)
        visit(RunningState())
        clock.now += 500
        visit(LOST)


def test_a_search_that_never_leaves_its_state_pauses_and_ends(clock: SimpleNamespace, visit: Visit) -> None:
    """Ray stays in one state where the number of workers may vary and the nodes hold too few."""
    visit(RunningState())
    for _ in range(3):
        visit(LOST)
    assert clock.paused == pytest.approx(1.0)
    clock.now += 101
    with pytest.raises(OutageError, match="albedo/A1-0: no place"):
        visit(LOST)


def test_the_end_of_a_fit_is_no_search(clock: SimpleNamespace, visit: Visit) -> None:
    visit(RunningState())
    visit(ShuttingDownState(next_state=FinishedState()))
    clock.now += 500
    visit(FinishedState())


def test_a_worker_that_dies_in_its_start_ends_the_fit(visit: Visit) -> None:
    died = WorkerGroupStartupFailedError("At least one of the worker actors failed")
    died.__cause__ = lost.RayActorError(error_msg="The actor died unexpectedly.")
    with pytest.raises(WorkerFailedError, match="died unexpectedly"):
        visit(ReschedulingState(ControllerError(died)))


def test_the_time_sheet_says_when_workers_start_and_when_they_are_joined(tmp_path: Path) -> None:
    stages = StartStages(CurrentPhase(tmp_path))
    stages.before_worker_group_start(None)
    stages.after_worker_group_start(None)
    lines = storage.read_records(tmp_path / TIME_SHEET)
    assert [(line["kind"], line["stage"]) for line in lines] == [
        ("starting", "workers"),
        ("starting", "program"),
    ]


def test_a_start_does_not_depend_on_its_time_sheet(tmp_path: Path) -> None:
    (tmp_path / TIME_SHEET).mkdir()
    StartStages(CurrentPhase(tmp_path)).before_worker_group_start(None)

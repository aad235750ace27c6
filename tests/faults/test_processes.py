"""What it costs when a process dies: the steps since the last checkpoint, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.cluster import kill_session, processes
from tests.faults.conftest import SEGMENT, STEPS, WORKERS, Begin
from tests.faults.training import Outcome, Training


def random_step_inside_a_segment(*, before: int = STEPS - 2 * SEGMENT) -> int:
    """Not the first or last step of a segment, and early enough for the fault to come before the end."""
    step = random.SystemRandom().randrange(SEGMENT, before)
    while step % SEGMENT in (0, SEGMENT - 1):
        step += 1
    return step


def kill(name: str, process: subprocess.Popen[bytes], *, count: int = 1) -> None:
    """SIGKILL of one of the ``count`` processes of the command's Ray whose title holds the name."""
    found = list(processes(lambda command: name in command, session=process.pid))
    assert len(found) >= count, f"{name}: {len(found)} processes"
    os.kill(random.SystemRandom().choice(found), signal.SIGKILL)


def ends_as_if_undisturbed(
    training: Training, process: subprocess.Popen[bytes], undisturbed: Outcome, *, fault: str, faults: int = 1
) -> None:
    """Waits for the end and compares: of each fault, a segment at most was trained again."""
    ended = training.outcome(training.finish(process))
    print(f"{fault}: {training.repeated()} steps repeated")
    assert training.repeated() <= faults * SEGMENT
    assert ended.batches == undisturbed.batches
    assert ended.weights == undisturbed.weights


def test_a_killed_worker_is_replaced(training_in: Begin, undisturbed: Outcome, tmp_path: Path) -> None:
    training = training_in(tmp_path)
    process = training.start()
    training.wait_for_step(random_step_inside_a_segment())
    began = time.monotonic()
    kill("RayTrainWorker", process, count=WORKERS)
    training.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="worker killed")
    assert training.repeated() > 0, "the worker was killed too late to matter"


def test_a_killed_data_task_is_done_again(training_in: Begin, undisturbed: Outcome, tmp_path: Path) -> None:
    training = training_in(tmp_path)
    process = training.start()
    limit = time.monotonic() + 120
    # A task carries its name while it runs, some milliseconds.
    while not any(processes(lambda command: "ray::MapBatches" in command, session=process.pid)):
        assert time.monotonic() < limit, training.said
        time.sleep(0.005)
    kill("ray::MapBatches", process)
    ends_as_if_undisturbed(training, process, undisturbed, fault="data task killed")


@pytest.mark.parametrize(
    ("end", "code", "last_words"),
    [
        pytest.param(
            lambda process: kill("TrainController", process),
            2,
            "The same command goes on",
            marks=pytest.mark.slow,
            id="controller",
        ),
        pytest.param(lambda process: process.kill(), -signal.SIGKILL, "", id="driver"),
    ],
)
def test_a_command_whose_controller_or_driver_is_killed_ends_and_the_same_command_resumes(
    end: Callable[[subprocess.Popen[bytes]], None],
    code: int,
    last_words: str,
    training_in: Begin,
    undisturbed: Outcome,
    tmp_path: Path,
) -> None:
    training = training_in(tmp_path)
    process = training.start()
    training.wait_for_step(random_step_inside_a_segment())
    began = time.monotonic()
    end(process)
    assert process.wait(timeout=120) == code, training.said
    assert last_words in training.said.splitlines()[-1]
    assert "Traceback" not in training.said
    assert training.reached() < STEPS - 1, "it was killed too late to matter"
    print(f"ended after {time.monotonic() - began:.0f} s")
    process = training.start()
    training.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="controller or driver killed")


@pytest.mark.slow
def test_the_same_command_resumes_a_cluster_that_was_killed_whole_twice(
    training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training = training_in(tmp_path)
    for first, last in ((SEGMENT, 2 * SEGMENT), (3 * SEGMENT, STEPS - 2 * SEGMENT)):
        process = training.start()
        training.wait_for_step(random.SystemRandom().randrange(first + 1, last))
        kill_session(process)
    assert training.reached() < STEPS - 1, "it was killed too late to matter"
    began = time.monotonic()
    process = training.start()
    training.wait_for_attempt(3)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="killed whole, twice", faults=2)

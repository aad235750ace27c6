"""A killed process costs the steps since the last checkpoint, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pbrlib.train.stall import REPORT_AFTER_S
from tests.faults.cluster import Cluster
from tests.faults.conftest import SEGMENT, STEPS, WORKERS, Begin
from tests.faults.training import Outcome, Training

pytestmark = pytest.mark.slow


def random_step_inside_a_segment(chance: random.Random) -> int:
    """Return a step within a segment, early enough for the fault to happen before the end."""
    step = chance.randrange(SEGMENT, STEPS - 2 * SEGMENT)
    while step % SEGMENT in (0, SEGMENT - 1):
        step += 1
    print(f"the fault comes after step {step}")
    return step


def processes_of(cluster: Cluster, name: str, *, count: int) -> list[int]:
    """Return the processes of a fit's actors of one kind, by actor id."""
    found = sorted(cluster.head.processes(f"ray::{name}"))
    assert len(found) == count, f"{name}: {len(found)} processes"
    return found


def ends_as_if_undisturbed(
    training: Training, process: subprocess.Popen[bytes], undisturbed: Outcome, *, fault: str, faults: int = 1
) -> None:
    """Waits for the end and compares: of each fault, a segment at most was trained again."""
    ended = training.outcome(training.finish(process))
    print(f"{fault}: {training.repeated()} steps repeated")
    assert training.repeated() <= faults * training.segment
    assert ended.batches == undisturbed.batches
    assert ended.weights == undisturbed.weights


def test_a_killed_worker_is_replaced(
    shared_cluster: Cluster, training_in: Begin, undisturbed: Outcome, chance: random.Random, tmp_path: Path
) -> None:
    training = training_in(tmp_path, cluster=shared_cluster)
    process = training.start()
    training.wait_for_step(random_step_inside_a_segment(chance))
    began = time.monotonic()
    victim = chance.randrange(WORKERS)
    print(f"of {WORKERS} workers, number {victim + 1} is killed")
    os.kill(processes_of(shared_cluster, "RayTrainWorker", count=WORKERS)[victim], signal.SIGKILL)
    training.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="worker killed")
    assert training.repeated() > 0, "the worker was killed too late to matter"


def test_workers_that_are_killed_in_every_start_end_the_command_and_the_same_command_continues(
    shared_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training = training_in(tmp_path, cluster=shared_cluster, runtime={"workers": WORKERS, "max_failures": 1})
    process = training.start()
    limit = time.monotonic() + 180
    while process.poll() is None:
        for pid in shared_cluster.head.processes("ray::RayTrainWorker"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < limit, training.said
        time.sleep(0.05)
    assert process.returncode == 2, training.said
    assert "max_failures is 1" in training.said.splitlines()[-1]
    assert "Traceback" not in training.said
    told = [(line["cause"], line["verdict"]) for line in training.incidents()]
    assert told == [("lost", "retried"), ("lost", "stops: max_failures is 1")]
    ends_as_if_undisturbed(training, training.start(), undisturbed, fault="workers killed in their starts")


def stop_a_data_task(training: Training, cluster: Cluster) -> int:
    """SIGSTOP to the first that is caught at work; returns its process.

    It carries its name while it works, some milliseconds.
    """

    def stopped() -> int | None:
        for pid in cluster.head.processes("ray::MapBatches"):
            os.kill(pid, signal.SIGSTOP)
            if pid in cluster.head.processes("ray::MapBatches"):
                return pid
            os.kill(pid, signal.SIGCONT)
        return None

    pid = training.wait_until(stopped, timeout_s=120, pause_s=0.005)
    assert pid is not None
    return pid


def test_a_killed_data_task_is_done_again(
    shared_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training = training_in(tmp_path, cluster=shared_cluster)
    process = training.start()
    os.kill(stop_a_data_task(training, shared_cluster), signal.SIGKILL)
    print(f"a data task was killed after step {training.reached()}")
    ends_as_if_undisturbed(training, process, undisturbed, fault="data task killed")
    assert training.repeated() == 0
    assert "failed" not in [line["kind"] for line in training.incidents()]


@pytest.mark.timeout(900)
def test_data_tasks_that_are_killed_in_the_middle_of_a_phase_are_done_again(
    shared_cluster: Cluster, long_training_in: Begin, long_undisturbed: Outcome, tmp_path: Path
) -> None:
    training = long_training_in(tmp_path, cluster=shared_cluster)
    process = training.start()
    for step in (80, 120, 160):
        training.wait_for_step(step)
        os.kill(stop_a_data_task(training, shared_cluster), signal.SIGKILL)
        print(f"a data task was killed after step {training.reached()}")
    assert training.reached() < 300, "it was killed too late to matter"
    ends_as_if_undisturbed(training, process, long_undisturbed, fault="data tasks killed")
    assert training.repeated() == 0
    assert "failed" not in [line["kind"] for line in training.incidents()]


@contextmanager
def a_data_task_hanging(training: Training, cluster: Cluster) -> Iterator[None]:
    """The first that is caught at work hangs until the block ends."""
    stopped = stop_a_data_task(training, cluster)
    print(f"a data task hangs after step {training.reached()}")
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGKILL)


def told_and_given_up(training: Training) -> None:
    """Check the incidents of one hanging task: the stalled input was reported, and one attempt ended."""
    told, failed, *others = training.incidents()
    print(told, failed, sep="\n")
    assert not others
    assert told["kind"] == "stalled" and told["seconds"] >= REPORT_AFTER_S
    assert failed["kind"] == "failed" and failed["error"] == "StalledError"
    for line in (told["waits_for"], failed["message"]):
        assert ".parquet" in line, "it names the shards that it waits for"


PATIENCE = {"workers": WORKERS, "input_timeout_s": 75}


def test_a_data_task_that_hangs_is_reported_and_ends_the_attempt(
    shared_cluster: Cluster, training_in: Begin, undisturbed: Outcome, tmp_path: Path
) -> None:
    training = training_in(tmp_path, cluster=shared_cluster, runtime=PATIENCE)
    process = training.start()
    with a_data_task_hanging(training, shared_cluster):
        ends_as_if_undisturbed(training, process, undisturbed, fault="data task stopped")
    told_and_given_up(training)


@pytest.mark.timeout(900)
def test_a_data_task_that_hangs_in_the_middle_of_a_phase_costs_a_segment(
    shared_cluster: Cluster, long_training_in: Begin, long_undisturbed: Outcome, tmp_path: Path
) -> None:
    training = long_training_in(tmp_path, cluster=shared_cluster, runtime=PATIENCE)
    process = training.start()
    training.wait_for_step(120)
    with a_data_task_hanging(training, shared_cluster):
        ends_as_if_undisturbed(training, process, long_undisturbed, fault="data task stopped")
    told_and_given_up(training)
    assert training.repeated() > 0, "it hung too late to matter"


@pytest.mark.parametrize(
    ("victim", "code", "last_words"),
    [
        pytest.param(
            lambda cluster, driver: processes_of(cluster, "TrainController", count=1)[0],
            2,
            "The same command resumes",
            id="controller",
        ),
        pytest.param(lambda cluster, driver: driver, -signal.SIGKILL, "", id="driver"),
    ],
)
def test_a_command_whose_controller_or_driver_is_killed_ends_and_the_same_command_resumes(
    victim: Callable[[Cluster, int], int],
    code: int,
    last_words: str,
    shared_cluster: Cluster,
    training_in: Begin,
    undisturbed: Outcome,
    chance: random.Random,
    tmp_path: Path,
) -> None:
    training = training_in(tmp_path, cluster=shared_cluster)
    process = training.start()
    training.wait_for_step(random_step_inside_a_segment(chance))
    began = time.monotonic()
    os.kill(victim(shared_cluster, process.pid), signal.SIGKILL)
    assert process.wait(timeout=120) == code, training.said
    assert last_words in training.said.splitlines()[-1]
    assert "Traceback" not in training.said
    assert training.reached() < STEPS - 1, "it was killed too late to matter"
    print(f"ended after {time.monotonic() - began:.0f} s")
    process = training.start()
    training.wait_for_attempt(2)
    print(f"back after {time.monotonic() - began:.0f} s")
    ends_as_if_undisturbed(training, process, undisturbed, fault="controller or driver killed")

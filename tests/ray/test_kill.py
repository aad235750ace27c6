"""What a kill -9 costs: the steps since the last checkpoint, and nothing else."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.load import dump_yaml
from pbrlib.curriculum.spec import Curriculum
from pbrlib.train.runs import RunDirectory
from pbrlib.train.state import WEIGHTS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

WORKERS, SEGMENT, STEPS = 2, 15, 90


class Training:
    """``pbr train`` of one long albedo phase in a process group of its own, with its own Ray."""

    def __init__(self, folder: Path, *, curriculum: Curriculum, shards: Path, runs: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        phase = curriculum.phases["A1"].model_copy(
            update={"epochs": STEPS // SEGMENT, "steps_per_epoch": SEGMENT}
        )
        longer = curriculum.model_copy(
            update={
                "phases": {"A1": phase},
                "task": curriculum.task.model_copy(update={"segformer": str(donor(runs))}),
            }
        )
        self.runs = folder / "runs"
        (folder / "albedo.yaml").write_text(dump_yaml(longer))
        (folder / "runtime.yaml").write_text(f"workers: {WORKERS}\nrecord_batches: true\n")
        self._command = [sys.executable, "-m", "ray_jobs.cli", "train", str(folder / "albedo.yaml")]
        self._command += ["--data", str(shards), "--runs", str(self.runs)]
        self._command += ["--runtime", str(folder / "runtime.yaml")]
        self._log = folder / "log.txt"

    def start(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def finish(self, process: subprocess.Popen[bytes]) -> Path:
        assert process.wait(timeout=240) == 0, self._log.read_text()
        return RunDirectory(self.runs, name="albedo").best()[0]

    def recorded(self, rank: int) -> list[dict[str, Any]]:
        found = list(self.runs.glob(f"albedo/A1-*/batches-rank{rank}.jsonl"))
        lines = found[0].read_text().split("\n")[:-1] if found else []
        return [json.loads(line) for line in lines]

    def batches(self) -> dict[int, dict[int, Any]]:
        """step -> rank -> samples with hashes; a step that was repeated must have been repeated equally."""
        steps: dict[int, dict[int, Any]] = {}
        for rank in range(WORKERS):
            for entry in self.recorded(rank):
                known = steps.setdefault(entry["step"], {}).setdefault(rank, entry["samples"])
                assert known == entry["samples"], f"step {entry['step']} was repeated with another batch"
        return steps

    def wait_for_step(self, step: int) -> None:
        limit = time.monotonic() + 180
        while not any(entry["step"] >= step for entry in self.recorded(1)):
            assert time.monotonic() < limit, self._log.read_text()
            time.sleep(0.01)


def donor(runs: Path) -> Path:
    return RunDirectory(runs, name="segformer").best()[0]


def processes(wanted: Callable[[str], bool], *, session: int) -> Iterator[int]:
    """Ids of the processes of a session by their command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            own = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3])
        except (OSError, ValueError):
            continue
        if own == session and wanted(command):
            yield int(entry.name)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Every process that the command started, Ray's own included, at once."""
    session = process.pid
    while found := list(processes(lambda command: True, session=session)):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.poll()
        time.sleep(0.1)
    process.wait(timeout=10)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, shard_folder: Path, trained_runs: Path, long_albedo: Curriculum
) -> tuple[Path, dict[int, dict[int, Any]]]:
    training = Training(
        tmp_path_factory.mktemp("undisturbed"), curriculum=long_albedo, shards=shard_folder, runs=trained_runs
    )
    best = training.finish(training.start())
    batches = training.batches()
    assert sorted(batches) == list(range(STEPS))
    return best, batches


@pytest.fixture(scope="module")
def long_albedo() -> Curriculum:
    from pbrlib.curriculum.load import parse_curriculum
    from tests.conftest import ALBEDO

    return parse_curriculum(ALBEDO)


def random_step_inside_a_segment() -> int:
    """Not the first or last step of a segment, and early enough for the kill to come before the end."""
    step = random.SystemRandom().randrange(SEGMENT, STEPS - 2 * SEGMENT)
    while step % SEGMENT in (0, SEGMENT - 1):
        step += 1
    return step


def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_undisturbed(
    undisturbed: tuple[Path, dict[int, dict[int, Any]]],
    tmp_path: Path,
    shard_folder: Path,
    trained_runs: Path,
    long_albedo: Curriculum,
) -> None:
    training = Training(tmp_path, curriculum=long_albedo, shards=shard_folder, runs=trained_runs)
    process = training.start()
    step = random_step_inside_a_segment()
    training.wait_for_step(step)
    workers = list(processes(lambda command: "RayTrainWorker" in command, session=process.pid))
    assert len(workers) == WORKERS
    os.kill(random.SystemRandom().choice(workers), signal.SIGKILL)
    print(f"killed a worker at step {step}")
    best = training.finish(process)
    repeated = [entry["step"] for entry in training.recorded(1)]
    assert len(repeated) > STEPS, "the worker was killed too late to matter"
    assert training.batches() == undisturbed[1]
    assert (best / WEIGHTS).read_bytes() == (undisturbed[0] / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_the_same_command_resumes_a_job_that_was_killed_whole(
    undisturbed: tuple[Path, dict[int, dict[int, Any]]],
    tmp_path: Path,
    shard_folder: Path,
    trained_runs: Path,
    long_albedo: Curriculum,
) -> None:
    training = Training(tmp_path, curriculum=long_albedo, shards=shard_folder, runs=trained_runs)
    process = training.start()
    step = random_step_inside_a_segment()
    training.wait_for_step(step)
    kill_session(process)
    print(f"killed the job at step {step}")
    reached = max(entry["step"] for entry in training.recorded(1))
    assert reached < STEPS - 1, "the job was killed too late to matter"
    best = training.finish(training.start())
    assert training.batches() == undisturbed[1]
    assert (best / WEIGHTS).read_bytes() == (undisturbed[0] / WEIGHTS).read_bytes()

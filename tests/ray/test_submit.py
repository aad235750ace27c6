"""Jobs of a cluster that runs beside the tests, as an operator starts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import GateError
from pbrlib.train.checkpoint.state import STATE, step_of_checkpoint
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import SEGFORMER
from tests.ray.head import Head, head_node

pytestmark = [pytest.mark.ray, pytest.mark.timeout(480)]

ROOT = Path(__file__).parents[2]
JOB_S = 240
LONG = SEGFORMER.replace("epochs: 1", "epochs: 400").replace("steps_per_epoch: 2", "steps_per_epoch: 8")
CLOSED = SEGFORMER + SEGFORMER[SEGFORMER.index("  S0:") :].replace("S0:", "S1:\n    starts_from: S0").replace(
    "batch: 4", "batch: 4\n    gate: {ratios: {generated: 1.0e-6}, window: 1}"
).lstrip("\n")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with head_node(num_cpus=4) as started:
        yield started


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with code, curricula, and files that no job needs."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("pbrlib", "ray_jobs"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".rayignore", folder)
    (folder / "configs").mkdir()
    for name, text in (("short", SEGFORMER), ("long", LONG), ("closed", CLOSED)):
        (folder / "configs" / f"{name}.yaml").write_text(text)
    (folder / "configs" / "runtime.yaml").write_text("workers: 1\nrecord_batches: true\n")
    return folder


class User:
    """A user at a terminal in the checkout."""

    def __init__(self, head: Head, checkout: Path) -> None:
        self._head, self._checkout, self.dashboard = head, checkout, head.dashboard

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self._checkout,
            env={**self._head.environment, "PYTHONPATH": str(self._checkout), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        pbr = (sys.executable, "-m", "ray_jobs", "submit", "--address", self.dashboard)
        return self.start(*pbr, *arguments, **more)

    def ray_job(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        ray = str(Path(sys.executable).with_name("ray"))
        return self.start(ray, "job", verb, "--address", self.dashboard, *arguments)

    def running(self) -> list[str]:
        return [one["submission_id"] for one in self.jobs() if one["status"] == "RUNNING"]

    def jobs(self) -> list[dict[str, Any]]:
        script = (
            "import json, sys; from ray.job_submission import JobSubmissionClient as Client;"
            "print(json.dumps([job.dict() for job in Client(sys.argv[1]).list_jobs()], default=str))"
        )
        output = finish(self.start(sys.executable, "-c", script, self.dashboard), code=0)
        found: list[dict[str, Any]] = json.loads(output.splitlines()[-1])
        return found


@pytest.fixture
def user(head: Head, checkout: Path) -> User:
    return User(head, checkout)


def finish(process: subprocess.Popen[str], *, code: int) -> str:
    output, _ = process.communicate(timeout=JOB_S)
    assert process.returncode == code, output
    return output


def training(file: str, *, data: Path, runs: Path) -> list[str]:
    places = ["--data", str(data), "--runs", str(runs)]
    return [f"configs/{file}.yaml", *places, "--runtime", "configs/runtime.yaml"]


def test_a_submitted_training_is_followed_to_its_end_and_is_known_by_a_name(
    user: User, shard_folder: Path, tmp_path: Path
) -> None:
    more = training("short", data=shard_folder, runs=tmp_path / "runs")
    output = finish(user.submit("--", "train", *more, "--phases", "S0"), code=0)
    assert "segformer/S0: finished" in output
    assert RunDirectory(tmp_path / "runs", name="segformer").best()[0].is_dir()
    (job,) = [one for one in user.jobs() if one["submission_id"] and one["status"] == "SUCCEEDED"]
    assert job["submission_id"].startswith("segformer-S0-2")
    assert job["metadata"]["job_name"] == "segformer/S0"
    assert job["metadata"]["runs"] == str(tmp_path / "runs")
    assert job["driver_exit_code"] == 0


def test_a_mistake_in_the_input_ends_the_submission_with_its_code_too(
    user: User, shard_folder: Path, tmp_path: Path
) -> None:
    more = training("short", data=shard_folder, runs=tmp_path / "runs")
    output = finish(user.submit("--", "train", *more, "--set", "phases.S0.crop=50"), code=2)
    assert "phases.S0.crop: got 50; expected a multiple of 32" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_closed_gate_ends_the_submission_with_its_code_too(
    user: User, shard_folder: Path, tmp_path: Path
) -> None:
    curriculum, shards = parse_curriculum(CLOSED), ShardSet.open(shard_folder)
    for phase in curriculum.phases:
        job = resolve(
            curriculum, phase, shards=shards, runs=tmp_path / "runs", runtime=RuntimeSpec(workers=1)
        )
        try:
            carry_out(job, launch_local)
        except GateError:
            assert phase == "S1"
    more = training("closed", data=shard_folder, runs=tmp_path / "runs")
    output = finish(user.submit("--", "train", *more), code=3)
    assert "did not pass its gate" in output


@pytest.mark.slow
def test_ray_itself_submits_the_training_as_a_module(user: User, shard_folder: Path, tmp_path: Path) -> None:
    more = training("short", data=shard_folder, runs=tmp_path / "runs")
    plain = ("--working-dir", ".", "--", "python", "-m", "ray_jobs", "train")
    output = finish(user.ray_job("submit", *plain, *more), code=0)
    assert "segformer/S0: finished" in output
    assert RunDirectory(tmp_path / "runs", name="segformer").best()[0].is_dir()


def committed(runs: Path) -> int:
    """The step of the newest complete checkpoint; 0 without one."""
    return max(
        (step_of_checkpoint(file.parent) for file in runs.glob(f"segformer/S0-*/*/{STATE}")), default=0
    )


def trained_steps(runs: Path) -> list[int]:
    """Return every trained step of all starts in chronological order."""
    (record,) = runs.glob("segformer/S0-*/batches-rank0.jsonl")
    return [json.loads(line)["step"] for line in record.read_text().split("\n")[:-1]]


def wait_beyond(step: int, *, runs: Path, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + JOB_S
    while committed(runs) <= step:
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.2)


def kill_driver(runs: Path) -> None:
    """Kill the driver without notice to the job, as the loss of its node would."""
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(runs).encode() in command and b"submit" not in command:
            os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_outlives_ctrl_c_stops_with_a_checkpoint_and_is_resumed_when_it_was_stopped_or_lost(
    user: User, shard_folder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    command = ("--", "train", *training("long", data=shard_folder, runs=runs))

    submission = user.submit(*command)
    wait_beyond(0, runs=runs, process=submission)
    submission.send_signal(signal.SIGINT)
    output = finish(submission, code=130)
    (job,) = user.running()
    assert f"--follow {job}" in output and f"ray job stop --address {user.dashboard} {job}" in output

    follower, before = user.submit("--follow", job), committed(runs)
    finish(user.ray_job("stop", job), code=0)
    output = finish(follower, code=143)
    assert "asked to stop; ends with the next checkpoint" in output
    at_stop = committed(runs)
    assert at_stop > before, "the job ended without another checkpoint"

    again = user.submit(*command)
    wait_beyond(at_stop, runs=runs, process=again)
    kill_driver(runs)
    output = finish(again, code=128 + signal.SIGKILL)
    at_loss = committed(runs)

    last = user.submit(*command)
    wait_beyond(at_loss, runs=runs, process=last)
    finish(user.ray_job("stop", *user.running()), code=0)
    finish(last, code=143)
    steps = trained_steps(runs)
    assert steps.count(0) == 1, "a start began anew"
    assert all(after >= at_stop for before, after in pairwise(steps) if after <= before)
    assert max(steps) >= at_loss


def test_an_unknown_job_is_reported_as_lost(user: User) -> None:
    output = finish(user.submit("--follow", "segformer-S0-lost"), code=2)
    assert "got no job of this id" in output and "resumes" in output


def test_a_request_without_the_token_is_rejected(user: User) -> None:
    wrong = finish(user.submit("--follow", "any", RAY_AUTH_TOKEN="0" * 64), code=2)
    none = finish(user.submit("--follow", "any", RAY_AUTH_TOKEN="", RAY_AUTH_MODE="disabled"), code=2)
    for output in (wrong, none):
        assert "the cluster rejected the request without its token" in output and "Traceback" not in output

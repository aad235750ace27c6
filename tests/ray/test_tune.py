"""Sweeps as real fits: the thin path, stops, failures, a kill, and two of them beside a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.sweep.study import Configuration, SweepStudy
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cluster.session import ray_session
from ray_jobs.fit.capacity import phases_in_cluster
from ray_jobs.sweep.sweepjobs import Sweep
from ray_jobs.sweep.sweeprun import begin_sweep, open_sweep
from ray_jobs.sweep.trials import run_trials
from tests.conftest import SEGFORMER
from tests.ray.head import head_node
from tests.sweep.sweeps import GAMMA, MIOU, write_search

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

NUM_CPUS = 4
OTHERS = {GAMMA: {"kind": "uniform", "low": 1.5, "high": 4.0}}
"""Without the present value, so that the best is another one."""
LR = "phases.S0.optimizer.lr"


@pytest.fixture
def one_worker(tmp_path: Path) -> Path:
    file = tmp_path / "runtime.yaml"
    file.write_text("workers: 1\n")
    return file


def opened(folder: Path, shards: Path, runtime: Path, **changes: Any) -> tuple[SweepStudy, Sweep]:
    search = write_search(folder, **changes)
    work = open_sweep(
        search,
        data=DataSpec.from_location(shards),
        runs=folder / "runs",
        out=folder / "sweep",
        runtime_file=runtime,
        overrides=[],
    )
    return begin_sweep(work), work


def run(study: SweepStudy, work: Sweep) -> list[Configuration]:
    told: list[Configuration] = []
    run_trials(study, work, room=phases_in_cluster(work.runtime), announce=told.append)
    return told


def free_cpus(*, within_s: float = 60.0) -> float:
    """Logical CPUs that nobody holds, once all are free or the time is over."""
    limit = time.monotonic() + within_s
    while (free := ray.available_resources().get("CPU", 0.0)) < NUM_CPUS and time.monotonic() < limit:
        time.sleep(0.5)
    return float(free)


@pytest.fixture
def command(shard_folder: Path, tmp_path: Path, one_worker: Path) -> list[str]:
    out = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "sweep")]
    data = ["--data", str(shard_folder), "--runtime", str(one_worker)]
    return [sys.executable, "-m", "ray_jobs", "tune", str(tmp_path / "gamma.yaml"), *data, *out]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    yield {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def started(command: list[str], environment: dict[str, str], *, log: Path) -> subprocess.Popen[bytes]:
    """The command in a session of its own, writing to ``log``."""
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes], *, log: Path) -> None:
    limit = time.monotonic() + 200
    while not happened():
        assert process.poll() is None and time.monotonic() < limit, log.read_text()
        time.sleep(0.2)


def test_a_trial_is_the_training_of_a_single_run_and_a_failed_one_does_not_stop_the_sweep(
    ray_cluster: None, shard_folder: Path, tmp_path: Path, one_worker: Path
) -> None:
    from pbrlib.curriculum.run import carry_out, launch_local, resolve
    from pbrlib.data.shards.reader import ShardSet

    space = {LR: {"kind": "grid", "values": [1e30, 1e-3]}}
    study, work = opened(
        tmp_path, shard_folder, one_worker, space=space, sampler={"kind": "grid"}, num_trials=None
    )
    run(study, work)
    failed, finished = sorted(study.configurations(), key=lambda one: one.state)
    assert finished.is_baseline and finished.number == 0
    assert failed.state == "failed" and "not finite" in failed.reason
    curriculum = load_curriculum(tmp_path / "segformer.yaml")
    runtime = RuntimeSpec(workers=1)
    job = resolve(
        curriculum, "S0", shards=ShardSet.open(shard_folder), runs=tmp_path / "alone", runtime=runtime
    )
    alone = carry_out(job, launch_local)
    assert finished.values(0) == [alone.metrics[MIOU]]
    trial = RunDirectory(work.folder(0, 0), name="segformer").best()[1]
    assert trial.fingerprint == alone.fingerprint


@pytest.mark.slow
def test_a_stopped_trial_gives_its_resources_back(
    ray_cluster: None, shard_folder: Path, tmp_path: Path, one_worker: Path
) -> None:
    long = SEGFORMER.replace("epochs: 1", "epochs: 200")
    study, work = opened(
        tmp_path, shard_folder, one_worker, text=long, num_trials=2, asha={"grace": 1, "reduction": 2}
    )
    before = ray.util.placement_group_table().keys()
    # Nothing is good enough here: each trial is dropped at its first validation.
    study.should_stop = lambda number, *, value, validation: True  # type: ignore[method-assign]
    run(study, work)
    assert [one.state for one in study.configurations()] == ["stopped", "stopped"]
    assert free_cpus() == NUM_CPUS
    places = ray.util.placement_group_table()
    assert {places[place]["state"] for place in places.keys() - before} == {"REMOVED"}


@pytest.mark.slow
def test_a_killed_sweep_resumes_with_its_finished_trials_kept(
    tmp_path: Path, command: list[str], environment: dict[str, str]
) -> None:
    write_search(
        tmp_path, text=SEGFORMER.replace("epochs: 1", "epochs: 4"), space=OTHERS, limits={"parallel": 1}
    )
    log = tmp_path / "log.txt"
    process = started(command, environment, log=log)
    wait_until(lambda: "trial 0: finished" in log.read_text(), process, log=log)
    # The whole machine goes: the driver, Ray and all workers.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = SweepStudy.open(tmp_path / "sweep").configurations()[0]
    record = tmp_path / "sweep" / "trials" / "0000-0" / "segformer" / "run.json"
    stamp = record.stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    again = SweepStudy.open(tmp_path / "sweep").configurations()
    assert [one.state for one in again] == ["finished"] * 3
    assert again[0] == first and record.stat().st_mtime_ns == stamp
    assert "trial 0:" not in done.stdout
    best = yaml.safe_load((tmp_path / "sweep" / "best.yaml").read_text())
    assert list(best) == [GAMMA]
    assert "Traceback" not in done.stderr
    applied = subprocess.run(
        [*command[:4], "apply", str(tmp_path / "sweep"), "--to", str(tmp_path / "segformer.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "1 of 1 addresses changed" in applied.stdout
    focal = load_curriculum(tmp_path / "segformer.yaml").phases["S0"].loss.focal
    assert focal is not None and focal.gamma == best[GAMMA]


@pytest.mark.slow
def test_a_second_command_is_rejected_and_an_interrupted_sweep_resumes(
    tmp_path: Path, command: list[str], environment: dict[str, str]
) -> None:
    long = SEGFORMER.replace("epochs: 1", "epochs: 60")
    write_search(tmp_path, text=long, num_trials=2, limits={"parallel": 1})
    log, trials = tmp_path / "log.txt", tmp_path / "sweep" / "trials"
    process = started(command, environment, log=log)
    wait_until(lambda: any(trials.glob("0000-0/segformer/S0-*/checkpoint_*")), process, log=log)
    second = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert second.returncode == 2 and f"process {process.pid} on " in second.stderr
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    said = log.read_text().splitlines()[2:]
    assert said == ["pbr: interrupted; resume with the same command (0 of 2 configurations have ended)"]
    assert [one.state for one in SweepStudy.open(tmp_path / "sweep").configurations()] == ["running"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert [one.state for one in SweepStudy.open(tmp_path / "sweep").configurations()] == ["finished"] * 2


@pytest.mark.slow
def test_a_sweep_whose_time_is_over_ends_and_continues_with_more(
    tmp_path: Path, command: list[str], environment: dict[str, str]
) -> None:
    long = SEGFORMER.replace("epochs: 1", "epochs: 60")
    write_search(tmp_path, text=long, num_trials=2, limits={"hours": 25 / 3600})
    over = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert over.returncode == 0, over.stdout + over.stderr
    assert "The time limit of the sweep was reached. Run the same command again to resume." in over.stdout
    states = {one.state for one in SweepStudy.open(tmp_path / "sweep").configurations()}
    assert "running" in states and "failed" not in states
    write_search(tmp_path, text=long, num_trials=2)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one.state for one in SweepStudy.open(tmp_path / "sweep").configurations()] == ["finished"] * 2


@pytest.mark.slow
def test_on_a_running_cluster_a_trial_whose_process_is_killed_fails_and_the_next_takes_its_place(
    tmp_path: Path, command: list[str]
) -> None:
    space = {LR: {"kind": "grid", "values": [1e-3, 2e-3]}}
    long = SEGFORMER.replace("epochs: 1", "epochs: 20")
    write_search(tmp_path, text=long, space=space, sampler={"kind": "grid"}, num_trials=None)
    log, trials = tmp_path / "log.txt", tmp_path / "sweep" / "trials"
    # Room for one: the second trial waits for what the first one held.
    with head_node(num_cpus=2) as head:
        process = started([*command, "--address", head.address], dict(head.environment), log=log)
        wait_until(lambda: any(trials.glob("0000-0/segformer/S0-*/checkpoint_*")), process, log=log)
        (trial,) = head.processes("ray::ImplicitFunc")
        os.kill(trial, signal.SIGKILL)
        assert process.wait(timeout=240) == 0, log.read_text()
    failed, finished = SweepStudy.open(tmp_path / "sweep").configurations()
    assert failed.state == "failed" and "process died" in failed.reason
    assert finished.state == "finished"
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_sweeps_and_a_run_share_a_cluster_of_four_cpus(
    shard_folder: Path, tmp_path: Path, one_worker: Path
) -> None:
    runs = []
    with ray_session(num_cpus=NUM_CPUS, dashboard=True):
        address = ray.get_runtime_context().gcs_address
        environment = {**os.environ, "RAY_ADDRESS": address}
        place = ["--data", str(shard_folder), "--runtime", str(one_worker)]
        for name in ("first", "second"):
            file = write_search(tmp_path / name, num_trials=3)
            folder = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / name / "sweep")]
            runs.append(["tune", str(file), *place, *folder])
        runs.append(
            ["train", str(tmp_path / "first" / "segformer.yaml"), *place, "--runs", str(tmp_path / "runs")]
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "ray_jobs", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for arguments in runs
        ]
        said = [process.communicate(timeout=800)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(said)
        assert free_cpus() == NUM_CPUS
    for name in ("first", "second"):
        order = json.loads((tmp_path / name / "sweep" / "trials.json").read_text())
        assert [one["state"] for one in order] == ["finished"] * 3

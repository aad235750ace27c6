"""Phases that train one after the other in one fit are the phases of fits of their own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

from pbrlib import storage
from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import Launcher, PhaseJob, RankWork, carry_out, launch_local, resolve, run_phase
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import GateError
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.learner import Learner
from pbrlib.train.plateau import PLATEAU
from pbrlib.train.record.incidents import read_incidents
from pbrlib.train.record.timesheet import TIME_SHEET
from pbrlib.train.runtime import Runtime
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.fit.fit import LostControllerError, launch_on_ray
from ray_jobs.fit.sharedfit import SharedFit, shared_fit
from tests.conftest import SEGFORMER

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

# The workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

PHASES = ("S0", "S1", "S2")
STEPS = 8


@pytest.fixture
def curriculum() -> Curriculum:
    """Three phases of two segments each; the second one ends on a plateau, in the middle of its stream."""
    content = parse_curriculum(SEGFORMER).model_dump(mode="json", exclude_none=True)
    first = {**content["phases"]["S0"], "epochs": 2, "steps_per_epoch": STEPS // 2}
    still = {"optimizer": {"lr": 1e-30, "weight_decay": 0.0}, "epochs": 9, "plateau": 1}
    content["phases"] = {
        "S0": first,
        "S1": {**first, **still, "starts_from": "S0"},
        "S2": {**first, "starts_from": "S0", "crop": 32},
    }
    return parse_curriculum(json.dumps(content))


class Runs:
    """Trains the phases of a curriculum into a folder, as a command does."""

    def __init__(self, curriculum: Curriculum, *, shards: ShardSet, runs: Path, **runtime: Any) -> None:
        self.curriculum, self.shards, self.runs = curriculum, shards, runs
        self.runtime = RuntimeSpec.model_validate({"workers": 1, "data_cpus": 0.3, **runtime})

    def job(self, phase: str) -> PhaseJob:
        return resolve(self.curriculum, phase, shards=self.shards, runs=self.runs, runtime=self.runtime)

    def train(self, launch: Launcher, *, phases: tuple[str, ...] = PHASES) -> dict[str, bytes]:
        """The weights of every phase."""
        return {phase: self.train_one(launch, phase) for phase in phases}

    def train_one(self, launch: Launcher, phase: str) -> bytes:
        job = self.job(phase)
        done = carry_out(job, launch)
        return weights_file(job.run_directory.path / done.checkpoint).read_bytes()

    def stages(self, phase: str) -> list[str]:
        lines = storage.read_records(self.job(phase).directory / TIME_SHEET)
        return [line.get("stage", line["kind"]) for line in lines]


@pytest.fixture
def make_runs(curriculum: Curriculum, shard_set: ShardSet, tmp_path: Path) -> Callable[..., Runs]:
    def make(name: str, **runtime: Any) -> Runs:
        return Runs(curriculum, shards=shard_set, runs=tmp_path / name, **runtime)

    return make


def launcher(fit: SharedFit, work: RankWork) -> Launcher:
    return lambda job: launch_on_ray(job, run=fit.run, work=work)


def stream_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name == "input" or "StreamingExecutor" in name]


def open_files() -> list[str]:
    """Return the open files of this process; its sockets change with the other processes of Ray."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.append(str(one.readlink()))
    return sorted(path for path in found if path.startswith("/") and not path.startswith("/dev"))


def note_process(job: PhaseJob, runtime: Runtime) -> None:
    """Trains a phase, and leaves the process, its open files, and the streams that do not end in it."""
    limit = time.monotonic() + 10
    while (streams := stream_threads()) and time.monotonic() < limit:
        time.sleep(0.1)
    note = {"process": os.getpid(), "streams": streams, "files": open_files()}
    (job.directory / f"process-{runtime.rank}.json").write_text(json.dumps(note))
    run_phase(job, runtime)


def cpus_are_free(within_s: float = 30.0) -> bool:
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]:
            return True
        time.sleep(0.1)
    return False


def test_a_shared_fit_trains_the_networks_of_single_phases_in_one_process(
    ray_cluster: None, make_runs: Callable[..., Runs]
) -> None:
    alone, together = make_runs("alone"), make_runs("together")
    wanted = alone.train(launch_local)
    fit = SharedFit()
    found = together.train(launcher(fit, note_process))
    fit.end()
    assert found == wanted
    assert together.job("S1").run_directory.phases()["S1"].stopped == PLATEAU
    notes = [json.loads((together.job(phase).directory / "process-0.json").read_text()) for phase in PHASES]
    assert len({note["process"] for note in notes}) == 1
    assert [note["streams"] for note in notes] == [[], [], []], "S1 ended before its stream did"
    assert notes[2]["files"] == notes[1]["files"], "files that a phase left open"
    begin = ["launched", "workers", "program", "networks", "first batch"]
    assert together.stages("S0")[:5] == begin
    assert together.stages("S2")[:3] == ["launched", "networks", "first batch"]
    assert cpus_are_free()


@pytest.mark.slow
def test_workers_do_not_outlive_a_gate_that_refuses(
    ray_cluster: None, make_runs: Callable[..., Runs]
) -> None:
    runs = make_runs("refused")
    with pytest.raises(GateError), shared_fit(PHASES) as launch:
        runs.train_one(launch, "S0")
        raise GateError("S0 is not good enough")
    assert cpus_are_free()


def killed_once(job: PhaseJob, runtime: Runtime) -> None:
    """Trains a phase; in those that have a file ``kill`` rank 1 is killed in its second segment, once."""
    update, kill = Learner.update, job.directory / "kill"
    steps = itertools.count(0 if runtime.latest_checkpoint() is None else STEPS // 2)

    def updating(self: Learner) -> None:
        if next(steps) == STEPS // 2 + 1 and runtime.rank == 1 and kill.exists():
            kill.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "update", updating)
        note_process(job, runtime)


def mark(job: PhaseJob) -> None:
    job.directory.mkdir(parents=True, exist_ok=True)
    (job.directory / "kill").touch()


@pytest.mark.slow
@pytest.mark.parametrize("max_failures", [2, 1])
def test_a_worker_that_is_killed_in_every_phase_costs_each_phase_one_retry(
    ray_cluster: None, make_runs: Callable[..., Runs], max_failures: int
) -> None:
    """Ray counts the failures of all phases together: with one retry a phase, another fit goes on."""
    wanted = make_runs("undisturbed", workers=2).train(launch_on_ray)
    runs = make_runs("killed", workers=2, max_failures=max_failures)
    fit, found = SharedFit(), {}
    for phase in PHASES:
        if phase != "S1":
            mark(runs.job(phase))
        found[phase] = runs.train_one(launcher(fit, killed_once), phase)
    fit.end()
    assert found == wanted
    lines = {phase: read_incidents(runs.job(phase).directory) for phase in PHASES}
    verdicts = {
        phase: [(one["cause"], one["verdict"], one["committed"]) for one in lines[phase]] for phase in PHASES
    }
    retried = [("lost", "retried", STEPS // 2)]
    assert verdicts == {"S0": retried, "S1": [], "S2": retried}
    assert runs.stages("S2").count("workers") == 1, "they were replaced"
    assert cpus_are_free()


def controller_killed(job: PhaseJob, runtime: Runtime) -> None:
    """Trains a phase; in one that has a file ``kill`` the controller is killed before the second segment."""
    update, kill = Learner.update, job.directory / "kill"
    steps = itertools.count()

    def updating(self: Learner) -> None:
        if next(steps) == STEPS // 2 + 1 and kill.exists():
            kill.unlink()
            from ray.train.v2._internal.execution.context import get_train_context

            ray.kill(get_train_context().controller_actor)
            time.sleep(60)
        update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "update", updating)
        run_phase(job, runtime)


@pytest.mark.slow
def test_a_lost_controller_ends_a_shared_fit_and_the_same_command_resumes(
    ray_cluster: None, make_runs: Callable[..., Runs]
) -> None:
    wanted = make_runs("undisturbed").train(launch_local)
    runs = make_runs("lost")
    fit = SharedFit()
    found: Mapping[str, bytes] = {"S0": runs.train_one(launcher(fit, controller_killed), "S0")}
    mark(runs.job("S1"))
    with pytest.raises(LostControllerError, match=r"segformer/S1-.*The same command resumes"):
        runs.train_one(launcher(fit, controller_killed), "S1")
    fit.end()  # Ray keeps the resources of a fit whose controller died until the command ends
    with shared_fit(PHASES) as launch:
        found = {**found, **runs.train(launch, phases=("S1", "S2"))}
    assert found == wanted
    (line,) = read_incidents(runs.job("S1").directory)
    assert (line["cause"], line["committed"]) == ("lost", STEPS // 2)

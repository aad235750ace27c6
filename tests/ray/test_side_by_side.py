"""Families of one wave as real fits at the same time, on a Ray with room for two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pbrlib.curriculum.config.load import load_ladder
from pbrlib.curriculum.run import PhaseJob, launch_local, one_by_one
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.train.checkpoint.players import weights_file
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.fit.capacity import phases_in_cluster
from ray_jobs.fit.fit import launch_on_ray
from ray_jobs.trainingrequest import TrainingRequest
from tests.conftest import ALBEDO, METALLIC

pytestmark = [pytest.mark.ray, pytest.mark.timeout(480)]

NAMES = ("albedo", "metallic")


def files(folder: Path, *, runs: Path, epochs: int) -> list[Path]:
    """Two curricula that need only the segmentation of other runs."""
    donor = RunDirectory(runs, name="segformer").best()[0]
    found = []
    for name, text in zip(NAMES, (ALBEDO, METALLIC), strict=True):
        kind = f"kind: {name}\n  segformer: {donor}"
        text = text.replace(f"kind: {name}", kind).replace("epochs: 1", f"epochs: {epochs}")
        if name == "metallic":
            text = text.replace(
                "  model:", f"  albedo: {RunDirectory(runs, name='albedo').best()[0]}\n  model:"
            )
        found.append(folder / f"{name}.yaml")
        found[-1].write_text(text.replace("epochs: 2", f"epochs: {epochs}"))
    return found


def states(runs: Path) -> list[tuple[str, int]]:
    try:
        return [
            (one["state"], one["step"]) for one in json.loads((runs / "ladder.json").read_text())["phases"]
        ]
    except FileNotFoundError:
        return []


def test_two_fits_at_once_train_the_same_networks_as_one_process_alone(
    ray_cluster: None, shard_folder: Path, trained_runs: Path, tmp_path: Path
) -> None:
    ladder = load_ladder(files(tmp_path, runs=trained_runs, epochs=2))
    assert len(ladder.waves) == 1
    runtime, both = RuntimeSpec(workers=1), threading.Barrier(2, timeout=60)
    assert phases_in_cluster(runtime) == 2
    assert phases_in_cluster(RuntimeSpec(workers=2)) == 1

    def launch(job: PhaseJob) -> Path:
        both.wait()
        return launch_on_ray(job)

    weights = []
    for runs, room in ((tmp_path / "ray", 2), (tmp_path / "local", 1)):
        work = TrainingRequest(
            ladder,
            data=DataSpec.from_location(shard_folder),
            runs=runs,
            runtime=runtime,
            phases={one.name: tuple(one.phases) for one in ladder.curricula},
        )
        work.train(one_by_one(launch if room == 2 else launch_local), room=lambda room=room: room)
        assert {state for state, _ in states(runs)} == {"finished"}
        weights.append([weights_file(RunDirectory(runs, name=name).best()[0]).read_bytes() for name in NAMES])
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize(("curricula", "earlier"), [(2, 0), (1, 0), (1, 1)])
def test_an_interrupted_command_ends_soon_and_the_same_command_resumes(
    shard_folder: Path, trained_runs: Path, tmp_path: Path, curricula: int, earlier: int
) -> None:
    """Ctrl-C while two fits run, while one runs in the main thread, and in the second phase of one."""
    runs, runtime = tmp_path / "runs", tmp_path / "runtime.yaml"
    runtime.write_text("workers: 1\n")
    chosen = files(tmp_path, runs=trained_runs, epochs=12)[:curricula]
    if earlier:
        head, _, phase = chosen[0].read_text().partition("  A1:\n")
        short = phase.replace("epochs: 12", "epochs: 1")
        chosen[0].write_text(f"{head}  A1:\n{short}  A2:\n    starts_from: A1\n{phase}")
    before = ["finished"] * earlier
    command = [sys.executable, "-m", "ray_jobs", "train", *map(str, chosen), "--runtime", str(runtime)]
    command += ["--data", str(shard_folder), "--runs", str(runs)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    limit = time.monotonic() + 180
    # Past the first checkpoint, and all of them at once.
    while [state for state, step in states(runs) if state == "training" and step > 6] != [
        "training"
    ] * curricula:
        assert process.poll() is None and time.monotonic() < limit, log.read_text()
        time.sleep(0.1)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=60)
    print(f"ended after {time.monotonic() - asked:.1f} s")
    assert code == 130, log.read_text()
    assert [state for state, _ in states(runs)] == before + ["stopped"] * curricula
    assert "pbr: interrupted" in log.read_text()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [state for state, _ in states(runs)] == [f"{one} before" for one in before] + [
        "finished"
    ] * curricula

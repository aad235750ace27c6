"""Training into a bucket: nothing of it is left on this machine, and it ends as on a disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pbrlib import storage
from pbrlib.curriculum.run import PhaseJob, carry_out, launch_local, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.checkpoint.players import read_weights
from pbrlib.train.checkpoint.state import OPTIMIZER, checkpoints
from pbrlib.train.record.journal import METRICS
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from tests.checkpoints import files_of
from tests.conftest import ALBEDO, SEGFORMER
from tests.s3_server import BROKEN, App, FaultyServer, cut_after, hanging_up
from tests.train.phases import Killed, job_of, kill_at


def stuck(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer nothing for longer than a test waits."""
    time.sleep(20.0)
    return hanging_up(app, environ, start)


def journal(job: PhaseJob) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.directory / METRICS).read_text().splitlines()]


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files; nothing else on this machine is written."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_run_in_a_bucket_continues_where_it_was_killed_and_ends_as_on_a_disk(
    s3: FaultyServer,
    bucket: str,
    shard_set: ShardSet,
    trained_runs: Path,
    albedo_curriculum: Curriculum,
    tmp_path: Path,
    empty_machine: Path,
) -> None:
    given = {"shards": shard_set, "donors": trained_runs, "profile_steps": 1}
    local = job_of(albedo_curriculum, "A1", runs=tmp_path / "local", **given)
    remote = replace(local, runs=storage.to_path(f"{bucket}/runs"))
    expected = carry_out(local, launch_local)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(6, patch)
        with pytest.raises(Killed):
            carry_out(remote, launch_local)
    assert not [*empty_machine.iterdir()], "another machine may go on"
    with (
        s3.failing("GET", OPTIMIZER, cut_after(1000), times=1) as cut,
        s3.failing("PUT", "checkpoint_00000008", BROKEN, times=2) as broken,
    ):
        done = carry_out(remote, launch_local)
    assert (cut.met, broken.met) == (1, 2)
    assert (done.checkpoint, done.history) == (expected.checkpoint, expected.history)
    ours, theirs = (job.run_directory.path / done.checkpoint for job in (remote, local))
    assert str(ours).startswith(f"{bucket}/runs/albedo/A1-")
    for name in files_of("albedo"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert not [*empty_machine.iterdir()]
    traces = {path.name for path in (remote.directory / "profile").iterdir()}
    assert "rank0-steps-4-4.trace.json.gz" in traces
    validated = [line for line in journal(remote) if line["kind"] == "validation"]
    assert validated == [line for line in journal(local) if line["kind"] == "validation"]


def test_donors_are_found_in_a_bucket_by_their_name_and_by_their_path(
    bucket: str, shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum
) -> None:
    runs = storage.to_path(f"{bucket}/runs")
    for path in trained_runs.rglob("*"):
        if path.is_file():
            storage.put_file(path, runs / path.relative_to(trained_runs))
    phase = albedo_curriculum.phases["A1"]
    folder = RunDirectory(runs, name="albedo").best()[0]
    jobs = [
        resolve(
            albedo_curriculum.model_copy(
                update={"name": "other", "phases": {"A1": phase.model_copy(update={"starts_from": donor})}}
            ),
            "A1",
            shards=shard_set,
            runs=runs,
            runtime=RuntimeSpec(workers=1),
        )
        for donor in ("albedo.A1", str(folder))
    ]
    assert [job.starts_from for job in jobs] == [folder, folder]
    assert read_weights(jobs[1].starts_from).keys()


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_sends_a_checkpoint_leaves_none_and_another_machine_continues(
    s3: FaultyServer, bucket: str, shard_folder: Path, tmp_path: Path
) -> None:
    files = {"segformer": SEGFORMER, "albedo": ALBEDO}
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)

    def words(runs: str | Path) -> list[str]:
        curricula = [str(tmp_path / f"{name}.yaml") for name in files]
        return ["train", *curricula, "--data", str(shard_folder), "--runs", str(runs), "--local"]

    first_machine = tmp_path / "first"
    first_machine.mkdir()
    with s3.failing("PUT", "checkpoint_00000008/players/albedo/optimizer.pt", stuck) as fault:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray_jobs", *words(f"{bucket}/runs")],
            env={**os.environ, "TMPDIR": str(first_machine)},
            stdout=subprocess.DEVNULL,
        )
        try:
            limit = time.monotonic() + 120
            while not fault.met and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait(timeout=10)
    assert fault.met
    (folder,) = storage.to_path(f"{bucket}/runs").glob("albedo/A1-*")
    assert [one.name for one in checkpoints(folder)] == ["checkpoint_00000004"]
    for runs in (f"{bucket}/runs", tmp_path / "disk"):
        done = CliRunner().invoke(main, words(runs))
        assert done.exit_code == 0, done.output
    ours, theirs = (
        RunDirectory(runs, name="albedo").best()[0]
        for runs in (storage.to_path(f"{bucket}/runs"), tmp_path / "disk")
    )
    for name in files_of("albedo"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    kinds = [json.loads(line)["kind"] for line in (folder / "time.jsonl").read_text().splitlines()]
    marks = [kind for kind in kinds if kind not in ("spent", "starting")]
    assert marks == ["launched", "begun", "launched", "begun", "ended"]

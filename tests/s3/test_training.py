"""Training into a bucket: nothing of it is left on this machine, and it ends as on a disk."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from pbrlib.curriculum.run import carry_out, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.place import place
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.state import OPTIMIZER, WEIGHTS
from tests.train.phases import Killed, job_of, kill_at


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; nothing else of this machine is written to."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_run_in_a_bucket_goes_on_where_it_was_killed_and_ends_as_on_a_disk(
    bucket: str,
    shard_set: ShardSet,
    trained_runs: Path,
    albedo_curriculum: Curriculum,
    tmp_path: Path,
    empty_machine: Path,
) -> None:
    given = {"shards": shard_set, "donors": trained_runs}
    local = job_of(albedo_curriculum, "A1", runs=tmp_path / "local", **given)
    remote = replace(local, runs=place(f"{bucket}/runs"))
    expected = carry_out(local, launch_local)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(6, patch)
        with pytest.raises(Killed):
            carry_out(remote, launch_local)
    assert not [*empty_machine.iterdir()], "another machine may go on"
    done = carry_out(remote, launch_local)
    assert (done.checkpoint, done.history) == (expected.checkpoint, expected.history)
    ours, theirs = (job.run_directory.path / done.checkpoint for job in (remote, local))
    assert str(ours).startswith(f"{bucket}/runs/albedo/A1-")
    for name in (WEIGHTS, OPTIMIZER):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert not [*empty_machine.iterdir()]

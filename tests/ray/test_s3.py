"""Two workers train into a bucket: what they and Ray leave lies there, and nothing secret in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib import storage
from pbrlib.curriculum.run import PhaseJob, carry_out
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DataError
from pbrlib.storage import s3listing, s3reading
from pbrlib.train.checkpoint.state import checkpoints
from ray_jobs.cli import main
from ray_jobs.fit.fit import launch_on_ray
from tests.checkpoints import files_of
from tests.conftest import S3_CREDENTIALS
from tests.s3_server import BROKEN, FaultyServer
from tests.train.phases import job_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.fixture
def job(
    shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path, bucket: str
) -> PhaseJob:
    # A bucket that is lost for good outlasts any retry.
    given = {"workers": 2, "data_cpus": 0.3, "max_failures": 0}
    local = job_of(
        albedo_curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path / "local", **given
    )
    return replace(local, runs=storage.to_path(f"{bucket}/runs"))


def secret_places(contents: Iterable[tuple[str, bytes]]) -> list[str]:
    secrets = [value.encode() for name, value in S3_CREDENTIALS.items() if name != "AWS_DEFAULT_REGION"]
    return [name for name, content in contents if any(secret in content for secret in secrets)]


@pytest.mark.slow
def test_two_workers_train_into_a_bucket_and_no_secret_is_written_anywhere(
    ray_cluster: None, job: PhaseJob, bucket: str
) -> None:
    done = carry_out(job, launch_on_ray)
    assert [one.name for one in checkpoints(job.directory)] == ["checkpoint_00000004", "checkpoint_00000008"]
    best = job.run_directory.best("A1")[0]
    assert best == job.run_directory.path / done.checkpoint
    logs = [path for path in Path("/tmp/ray/session_latest/logs/").rglob("*") if path.is_file()]
    assert logs
    found = {address: s3reading.read(address) for address in s3listing.tree(bucket)}
    assert secret_places(found.items()) == []
    assert secret_places((str(path), path.read_bytes()) for path in logs) == []


def test_a_set_that_cannot_be_prepared_whole_is_none_and_the_same_command_prepares_it(
    ray_cluster: None, bucket: str, s3: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    sources = ["generated:count=2,size=64,seed=1", "--hold-out", "fabric*"]
    command = ["prepare", *sources, "--out", f"{bucket}/set"]
    with s3.failing("PUT", "manifest.json", BROKEN):
        failed = CliRunner().invoke(main, command)
    assert failed.exit_code == 2
    assert f"pbr: {bucket}/set/manifest.json: S3 answers" in failed.output
    with pytest.raises(DataError, match=r"no manifest\.json"):
        ShardSet.open(f"{bucket}/set")
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    ShardSet.open(f"{bucket}/set").verify()


@pytest.mark.slow
def test_a_fit_that_lost_its_bucket_stops_with_a_message_and_continues_as_if_on_a_disk(
    ray_cluster: None, job: PhaseJob, s3: FaultyServer, tmp_path: Path
) -> None:
    on_disk = replace(job, runs=tmp_path / "local")
    expected = carry_out(on_disk, launch_on_ray)
    first, second = "checkpoint_00000004/state.json", "checkpoint_00000008/state.json"
    for lost, left in ((first, []), (second, ["checkpoint_00000004"])):
        with (
            s3.failing("PUT", lost, BROKEN),
            pytest.raises(DataError, match=f"s3://.*/{lost}: .*InternalError"),
        ):
            carry_out(job, launch_on_ray)
        assert [one.name for one in checkpoints(job.directory)] == left
    done = carry_out(job, launch_on_ray)
    assert (done.checkpoint, done.history) == (expected.checkpoint, expected.history)
    ours, theirs = (one.run_directory.path / done.checkpoint for one in (job, on_disk))
    for name in files_of("albedo"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()

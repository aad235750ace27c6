"""A step that was not finite in a run on S3: what is kept of it lies there, and is replayed from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib import storage
from pbrlib.curriculum.run import launch_local
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import NumericsError
from pbrlib.train.failedstep import read_failed_step
from ray_jobs.cli import main
from tests.train.debug.test_debug_step import WILD, albedo, job_in


def test_it_is_replayed_bit_for_bit(shard_set: ShardSet, trained_runs: Path, bucket: str) -> None:
    runs = storage.to_path(f"{bucket}/runs")
    job = job_in(runs, albedo(trained_runs, changes=WILD), shards=shard_set, workers=1)
    with pytest.raises(NumericsError, match="phase A1, step 1"):
        launch_local(job)
    record = read_failed_step(job.directory)
    assert record is not None and record.step == 1
    result = CliRunner().invoke(main, ["debug-step", f"{bucket}/runs/albedo"])
    assert result.exit_code == 4, result.output
    for said in ("step 1, 1 rank", "not finite", "bit for bit"):
        assert said in result.output

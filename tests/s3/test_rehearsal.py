"""The place of a rehearsal in a bucket: what it checks there, and that nothing of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib import storage
from pbrlib.curriculum.run import launch_local, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.rehearsal import phase as rehearsal
from pbrlib.rehearsal.measured import rehearse
from pbrlib.rehearsal.node import inspect_node, read_token, write_token
from pbrlib.rehearsal.scratch import scratch_runs
from pbrlib.storage import s3listing
from pbrlib.train.runtimespec import RuntimeSpec
from tests.s3_server import FaultyServer, refusing


def test_tokens_go_both_ways_through_a_bucket_and_nothing_stays(bucket: str, shard_folder: Path) -> None:
    with scratch_runs(storage.to_path(f"{bucket}/runs"), keep=False) as scratch:
        write_token(scratch, "of the driver")
        facts = inspect_node(
            scratch, node="a", token="of the node", data=DataSpec.from_location(shard_folder)
        )
        assert (facts.reads, facts.writes) == ("of the driver", None)
        assert read_token(scratch, "a") == "of the node"
        assert read_token(scratch, "b") is None
        assert s3listing.tree(bucket)
    assert s3listing.tree(bucket) == {}


def test_a_node_that_may_not_use_the_bucket_says_why(
    bucket: str, s3: FaultyServer, shard_folder: Path
) -> None:
    scratch = storage.to_path(f"{bucket}/runs/.rehearsal-1")
    facts = inspect_node(scratch, node="a", token="of the node", data=DataSpec.from_location(shard_folder))
    assert facts.reads.endswith("token-of-the-driver: no such file")
    denied = refusing("403 Forbidden", "AccessDenied")
    with s3.failing("GET", "", denied), s3.failing("PUT", "", denied), s3.failing("HEAD", "", denied):
        facts = inspect_node(
            scratch, node="a", token="of the node", data=DataSpec.from_location(shard_folder)
        )
    for said in (facts.reads, facts.writes or ""):
        assert "runs/.rehearsal-1/" in said and "AccessDenied" in said


def test_a_phase_is_rehearsed_in_a_bucket_and_leaves_nothing(
    bucket: str, shard_set: ShardSet, segformer_curriculum: Curriculum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SUPPLY_S", 0.02)
    with scratch_runs(storage.to_path(f"{bucket}/runs"), keep=False) as scratch:
        runtime = RuntimeSpec(workers=1)
        job = resolve(segformer_curriculum, "S0", shards=shard_set, runs=scratch, runtime=runtime)
        figures = rehearse(job, launch_local)
        assert figures.restored and figures.checkpoint_bytes > figures.weights_bytes > 0
        assert s3listing.tree(bucket)
    assert s3listing.tree(bucket) == {}

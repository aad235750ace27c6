"""A rehearsal tries the bucket that the runs will lie in, and leaves nothing there."""

from __future__ import annotations

import pytest

from pbrlib.curriculum.run import launch_local, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data import storage
from pbrlib.data.place import place
from pbrlib.data.shards.reader import ShardSet
from pbrlib.rehearsal import phase as rehearsal
from pbrlib.rehearsal.measured import rehearse
from pbrlib.rehearsal.node import leave_token, left_by, look_around
from pbrlib.rehearsal.scratch import scratch_runs
from pbrlib.train.spec import RuntimeSpec


def test_a_phase_is_rehearsed_in_a_bucket_and_leaves_nothing(
    bucket: str, shard_set: ShardSet, segformer_curriculum: Curriculum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "SUPPLY_S", 0.02)
    runs, runtime = place(f"{bucket}/runs"), RuntimeSpec(workers=1)
    with scratch_runs(runs, keep=False) as scratch:
        leave_token(scratch, "said")
        facts = look_around(scratch, node="n1", token="one", data=str(shard_set.location))
        assert (facts.reads, facts.writes, left_by(scratch, "n1")) == ("said", None, "one")
        job = resolve(segformer_curriculum, "S0", shards=shard_set, runs=scratch, runtime=runtime)
        figures = rehearse(job, launch_local)
        assert figures.restored and figures.checkpoint_bytes > figures.weights_bytes > 0
        assert storage.list_files(scratch)
    assert not list(runs.rglob("*"))

"""A ladder rehearsed on two real workers, and what a cluster says of itself before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib.data.shards.reader import ShardSet
from pbrlib.rehearsal import phase as rehearsal
from pbrlib.rehearsal.checks import check_communication
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from ray_jobs.fit.preflight import check_collectives, storage_and_data, stores, workers_on
from tests.conftest import SEGFORMER
from tests.rehearsal.test_ladder import SECOND

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]


def test_workers_talk_and_nodes_say_what_they_see_and_have(
    ray_cluster: None, shard_set: ShardSet, tmp_path: Path
) -> None:
    runtime = RuntimeSpec(workers=2)
    talk = check_collectives(runtime, scratch=tmp_path, gradient_bytes=4_000_000)
    assert (talk.error, talk.right, talk.bytes, len(talk.hosts)) == (None, True, 4_000_000, 2)
    assert check_communication(talk).verdict == "ok" and talk.bytes_per_s > 0
    data = shard_set.data
    nodes, checks = storage_and_data(tmp_path, runs=tmp_path, data=data, fingerprint=shard_set.fingerprint)
    assert [(check.check, check.verdict) for check in checks] == [
        ("storage shared", "ok"),
        ("shards readable", "ok"),
    ]
    (node,) = nodes
    assert workers_on(runtime) == {node.node: 2} and stores()[node.node] > 0
    _, wrong = storage_and_data(tmp_path, runs=tmp_path, data=data, fingerprint="of another version")
    assert wrong[1].verdict == "failed"


@pytest.mark.slow
def test_a_ladder_is_rehearsed_on_two_workers_and_leaves_nothing(
    ray_cluster: None, shard_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "segformer.yaml").write_text((SEGFORMER + SECOND).replace("epochs: 1", "epochs: 100"))
    runs, out = tmp_path / "runs", tmp_path / "rehearsal.json"
    places = ["--data", str(shard_folder), "--runs", str(runs), "--report", str(out)]
    done = CliRunner().invoke(main, ["rehearse", str(tmp_path / "segformer.yaml"), *places])
    assert done.exit_code == 0, done.output
    assert list(runs.iterdir()) == []
    found = json.loads(out.read_text())
    assert found["passed"] and found["workers"] == 2 and found["room"] == 1
    assert [one["phase"] for one in found["phases"]] == ["S0", "S1"]
    for one in found["phases"]:
        figures = one["figures"]
        assert [rank["rank"] for rank in figures["ranks"]] == [0, 1]
        assert all(len(rank["step_s"]) == rehearsal.STEPS for rank in figures["ranks"])
        assert figures["restored"] and figures["restored_at"] == rehearsal.STEPS
        assert min(figures["peak_bytes"], figures["checkpoint_bytes"], figures["start_s"]) > 0
        assert one["estimate"]["seconds"] > 0
    assert found["phases"][0]["steps"] == 200
    assert found["phases"][1]["figures"]["donor_tensors"] == [124, 124]
    checks = {check["check"]: check["verdict"] for check in found["checks"]}
    assert checks["gloo"] == checks["storage shared"] == checks["shards readable"] == "ok"
    assert "S0, all" in done.output

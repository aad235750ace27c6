from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.rehearsal import checks
from pbrlib.rehearsal.checks import Communication, check_communication
from pbrlib.rehearsal.node import NodeFacts, inspect_node, read_token, write_token
from pbrlib.train.runtimespec import RuntimeSpec

GB = 10**9
NODE = NodeFacts(
    node="n1",
    host="first",
    reads="said",
    writes=None,
    data="print",
    shm_bytes=8 * GB,
    memory_bytes=64 * GB,
    cpus=16,
)
OTHER = replace(NODE, node="n2", host="second")
OWN = {"n1": "one", "n2": "two"}


def shared(*nodes: NodeFacts, back: dict[str, str | None] | None = None) -> checks.Check:
    found = OWN if back is None else back
    return checks.storage_shared(nodes, place="/mnt/pbr/runs", token="said", back=found, own=OWN)


def test_storage_is_shared_when_every_token_is_read_on_the_other_side() -> None:
    assert shared(NODE, OTHER).verdict == "ok"
    assert shared(NODE, OTHER).found == "2 nodes"
    assert shared(NODE).found == "one node"


@pytest.mark.parametrize(
    ("node", "back", "found"),
    [
        (replace(OTHER, reads="/mnt/pbr/runs: No such file"), OWN, "second: /mnt/pbr/runs: No such file"),
        (replace(OTHER, reads="another"), OWN, "second: another"),
        (OTHER, {"n1": "one", "n2": None}, "second: its file is not visible here"),
        (OTHER, {"n1": "one", "n2": "old"}, "second: its file is not visible here"),
        (replace(OTHER, writes="/mnt/n2: Read-only"), OWN, "second: /mnt/n2: Read-only"),
    ],
)
def test_storage_that_a_node_does_not_share_fails_with_its_name(
    node: NodeFacts, back: dict[str, str | None], found: str
) -> None:
    check = shared(NODE, node, back=back)
    assert check.verdict == "failed"
    assert check.found == f"1 of 2 nodes do not share it: {found}"
    assert check.advice is not None and "/mnt/pbr/runs" in check.advice


def test_a_node_that_has_another_disk_under_the_path_is_found_out(
    shard_set: ShardSet, tmp_path: Path
) -> None:
    """The disks of two nodes are two folders: what a node reads and leaves, it does on its own."""
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
    write_token(here, "said")
    data = shard_set.data
    nodes = [
        inspect_node(here, node="n1", token="one", data=data),
        inspect_node(there, node="n2", token="two", data=data),
    ]
    back = {node.node: read_token(here, node.node) for node in nodes}
    check = shared(*nodes, back=back)
    assert check.verdict == "failed" and check.found.startswith("1 of 2 nodes")
    assert shared(nodes[0], back=back).verdict == "ok"
    print_ = shard_set.fingerprint
    assert checks.data_readable(nodes, data=str(data), fingerprint=print_).verdict == "ok"


def test_a_node_without_the_shards_is_named(tmp_path: Path) -> None:
    write_token(tmp_path, "said")
    blind = inspect_node(tmp_path, node="n1", token="one", data=DataSpec.from_location(tmp_path / "none"))
    check = checks.data_readable([NODE, blind], data="/mnt/shards", fingerprint="print")
    assert check.verdict == "failed"
    assert "no such folder" in check.found and "/mnt/shards" in str(check.advice)


def test_a_node_that_cannot_write_says_why(shard_set: ShardSet, tmp_path: Path) -> None:
    write_token(tmp_path, "said")
    (tmp_path / "n1").mkdir()  # In the way of its file, for root too.
    found = inspect_node(tmp_path, node="n1", token="one", data=DataSpec.from_location(shard_set.location))
    assert found.reads == "said"
    assert found.writes is not None and "n1: cannot be written" in found.writes
    assert "Is a directory" in found.writes


def test_workers_that_sum_a_gradient_right_talk_at_a_pace() -> None:
    said = Communication(
        "nccl", world=4, hosts=("a", "a", "b", "b"), bytes=300_000_000, seconds=0.03, right=True
    )
    check = check_communication(said)
    assert (check.check, check.verdict) == ("nccl", "ok")
    # 2 x 3 / 4 of 300 MB in 30 ms.
    assert check.found == "2 nodes, 30 ms = 15 GB/s through each worker"
    assert check_communication(replace(said, right=False)).verdict == "failed"
    assert check_communication(replace(said, world=1)).found == "one worker, no communication"


def test_workers_without_an_answer_fail_with_a_remedy() -> None:
    check = check_communication(Communication("nccl", world=4, error="Timeout(ms)=120000"))
    assert check.verdict == "failed" and check.found == "Timeout(ms)=120000"
    assert "NCCL_SOCKET_IFNAME" in str(check.advice)
    assert "NCCL" not in str(check_communication(Communication("gloo", world=2, error="refused")).advice)


def test_a_stream_needs_its_blocks_and_the_batches_ahead() -> None:
    runtime = RuntimeSpec(data_cpus=4, prefetch=2)
    given = {"crop": 256, "tile_bytes": 250_000.0, "block": 32}
    # (4 + 1) blocks of 32 draws and 2 batches of 10, each draw 2 x 2 tiles.
    assert checks.store_need(runtime, batch=10, limit=GB, **given) == (160 + 20) * 4 * 250_000
    assert checks.store_need(runtime, batch=10, limit=100, **given) == 100
    larger = checks.store_need(runtime, batch=10, limit=10 * GB, **{**given, "crop": 1024})
    assert larger == (160 + 20) * 25 * 250_000


def test_an_object_store_too_small_for_the_workers_of_its_node_fails() -> None:
    given = {"workers": {"n1": 8, "n2": 8}, "per_worker": GB // 2}
    stores = {"n1": 4 * GB, "n2": 3 * GB}
    assert checks.object_store([NODE], stores=stores, **given).verdict == "ok"
    check = checks.object_store([NODE, OTHER], stores=stores, **given)
    assert check.verdict == "failed"
    assert (check.found, check.needed) == ("3.0 GB on second", "4.0 GB = 8 x 500 MB")


def test_shared_memory_smaller_than_the_object_store_fails_since_ray_then_takes_a_disk() -> None:
    assert checks.shared_memory([NODE], stores={"n1": 8 * GB}).verdict == "ok"
    check = checks.shared_memory([NODE, replace(OTHER, shm_bytes=64_000_000)], stores={"n1": GB, "n2": GB})
    assert (check.verdict, check.found) == ("failed", "64 MB on second")
    assert "--shm-size" in str(check.advice)
    assert checks.shared_memory([replace(NODE, shm_bytes=None)], stores={"n1": GB}).verdict == "failed"


def test_space_memory_and_devices_against_what_was_measured() -> None:
    assert checks.space(50 * GB, needed=40 * GB, place="/runs").verdict == "ok"
    assert checks.space(30 * GB, needed=40 * GB, place="/runs").verdict == "failed"
    stores = {"n1": 8 * GB}
    assert checks.memory([NODE], workers={"n1": 8}, per_worker=7 * GB, stores=stores).verdict == "ok"
    assert checks.memory([NODE], workers={"n1": 8}, per_worker=8 * GB, stores=stores).verdict == "failed"
    assert checks.device_memory(60 * GB, reserved=70 * GB, device=80 * GB).verdict == "ok"
    assert checks.device_memory(60 * GB, reserved=77 * GB, device=80 * GB).verdict == "warning"


def test_fewer_cpus_than_were_promised_are_a_warning() -> None:
    runtime = RuntimeSpec(cpus_per_worker=2, data_cpus=4)
    assert checks.processors([NODE], workers={"n1": 2}, runtime=runtime).verdict == "ok"
    check = checks.processors([NODE], workers={"n1": 4}, runtime=runtime)
    assert (check.verdict, check.found, check.needed) == (
        "warning",
        "16 on first",
        "24 = 4 x (2 + 4 for its data)",
    )

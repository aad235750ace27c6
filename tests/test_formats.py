"""Files of earlier versions open, or are rejected with what to do.

``tests/formats`` was written by the program of each format: a change of a format adds a folder there.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pbrlib.data.shards.manifest import FORMAT_VERSION as SHARDS
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DamagedCheckpointError, DataError
from pbrlib.inference.modelfile import FORMAT_VERSION as MODELS
from pbrlib.inference.trained import trained_in
from pbrlib.maps import MAPS
from pbrlib.train.checkpoint.players import read_weights, restore, verify
from pbrlib.train.checkpoint.state import FORMAT_VERSION as CHECKPOINTS
from pbrlib.train.checkpoint.state import (
    OPTIMIZER,
    READABLE,
    STATE,
    WEIGHTS,
    State,
    Validated,
    read_state,
)
from pbrlib.train.checkpoint.sums import OWN_SUM
from pbrlib.train.record.rundirectory import RECORD, FinishedPhase, RunDirectory
from tests.checkpoints import learned

FORMATS = Path(__file__).parent / "formats"


def network() -> nn.Module:
    """Return the network of the checkpoints after a step with AdamW."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))


def trained() -> nn.Module:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    net(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return net


def test_every_format_has_a_fixture() -> None:
    wanted = {
        "checkpoint": {*READABLE, CHECKPOINTS},
        "run": {*READABLE, CHECKPOINTS},
        "shards": set(range(1, SHARDS + 1)),
        "model": set(range(1, MODELS + 1)),
    }
    for what, versions in wanted.items():
        assert {int(path.name.split("-v")[1]) for path in FORMATS.glob(f"{what}-v*")} == versions, what


def test_the_newest_fixture_has_every_written_field() -> None:
    state = json.loads((FORMATS / f"checkpoint-v{CHECKPOINTS}" / STATE).read_text())
    assert state.keys() - {OWN_SUM} == {field.name for field in fields(State)}
    (phase,) = json.loads((FORMATS / f"run-v{CHECKPOINTS}" / RECORD).read_text())["phases"].values()
    assert phase.keys() == {field.name for field in fields(FinishedPhase)}


@pytest.mark.parametrize("version", READABLE)
def test_a_checkpoint_of_every_format_is_restored(version: int) -> None:
    folder = FORMATS / f"checkpoint-v{version}"
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    state = restore(folder, fingerprint="f" * 64, learned=learned(net, optimizer))
    assert (state.phase, state.step, state.metrics) == ("A1", 4, {"val/all/albedo/l1": 0.25})
    assert state.format_version == version
    assert list(state.players) == ["albedo"], "the role that the network was declared with"
    for name, tensor in trained().state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], tensor)
    assert optimizer.param_groups[0]["lr"] == 1e-2
    first, second = (Validated(step, {"val/all/albedo/l1": 1 / step}) for step in (2, 4))
    assert state.history == ((first, second) if version > 1 else ())
    assert state.threads == (1 if version > 2 else None)
    verify(folder)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", [WEIGHTS, OPTIMIZER])
def test_a_truncated_checkpoint_without_checksums_is_damaged(tmp_path: Path, version: int, name: str) -> None:
    folder = shutil.copytree(FORMATS / f"checkpoint-v{version}", tmp_path / "c")
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises(DamagedCheckpointError, match=name):
        verify(folder)
    assert read_state(folder).files == {}


@pytest.mark.parametrize("version", READABLE)
def test_the_run_record_of_every_format_gives_the_best_checkpoint(tmp_path: Path, version: int) -> None:
    shutil.copytree(FORMATS / f"run-v{version}", tmp_path / "albedo")
    best = tmp_path / "albedo" / "A1-ffffffff" / "checkpoint_00000004"
    shutil.copytree(FORMATS / f"checkpoint-v{version}", best)
    folder, done = RunDirectory(tmp_path, name="albedo").best()
    assert (folder, done.step) == (best, 4)
    assert len(done.history) == (2 if version > 1 else 0)
    assert done.stopped == ("plateau" if version > 2 else None)
    assert (done.gate or {}).get("passed") == (True if version > 2 else None)
    assert read_weights(folder).keys() == network().state_dict().keys()


@pytest.mark.parametrize("version", range(1, SHARDS))
def test_an_older_shard_set_is_refused_with_the_command_to_prepare_it(version: int) -> None:
    with pytest.raises(DataError, match=f"format version {version}; .* pbr prepare SOURCE... --out FOLDER"):
        ShardSet.open(FORMATS / f"shards-v{version}")


def test_a_shard_set_without_a_manifest_checksum_opens() -> None:
    shards = ShardSet.open(FORMATS / f"shards-v{SHARDS}")
    assert shards.manifest.sha256 is None
    assert shards.fingerprint == "f22b6dfd37774368ae46fb9d84e7867550b3e3cac40b972d2afc667bf517fca6", (
        "or phases that were trained on it would begin anew"
    )
    shards.verify()
    (row,) = shards.rows
    rng = np.random.default_rng(1)
    for name in ("albedo", "normal"):
        kind = MAPS[name]
        wanted = rng.integers(0, kind.maximum, (8, 8, kind.channels), dtype=kind.dtype, endpoint=True)
        np.testing.assert_array_equal(shards.read_whole(row, [name])[name], wanted)


def test_the_networks_of_a_model_folder_can_be_opened() -> None:
    found = trained_in(FORMATS / "model-v1")
    assert [one.role for one in found] == ["segmentation", "albedo"]
    for one in found:
        _, net = one.open(device=torch.device("cpu"))
        assert all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values())

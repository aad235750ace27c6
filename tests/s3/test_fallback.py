"""A damaged checkpoint in a bucket: passed as one on a disk, and not mistaken for a bucket that is away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pbrlib import storage
from pbrlib.errors import CheckpointError, DamagedCheckpointError, DataError
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.train.checkpoint.players import restore, save, weights_file
from pbrlib.train.checkpoint.state import (
    SET_ASIDE,
    STATE,
    WEIGHTS,
    State,
    checkpoints,
)
from pbrlib.train.fallback import retry_without_damaged
from tests.checkpoints import DECLARED, NET, files_of, learned
from tests.s3_server import BUSY, FaultyServer

LAYER = nn.Linear(4, 4)


@pytest.fixture
def phase(bucket: str, tmp_path: Path) -> storage.S3Path:
    """The folder of a phase with three checkpoints."""
    folder = storage.S3Path(f"{bucket}/albedo/A1-ffffffff")
    for step in (1, 2, 3):
        state = State("A1", "f", step, 9, {}, DECLARED)
        save(tmp_path / "c", state=state, learned=learned(LAYER, torch.optim.AdamW(LAYER.parameters())))
        storage.move_folder(tmp_path / "c", folder / f"checkpoint_{step:08d}", last=STATE)
    return folder


def resumed(phase: storage.S3Path) -> int:
    newest = checkpoints(phase)[-1]
    return restore(
        newest, fingerprint="f", learned=learned(LAYER, torch.optim.AdamW(LAYER.parameters()))
    ).step


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def test_a_cut_upload_is_passed_and_said_in_the_journal(phase: storage.S3Path) -> None:
    cut(phase / "checkpoint_00000003" / files_of(NET)[1])
    assert retry_without_damaged(phase, lambda: resumed(phase)) == 2
    assert [one.name for one in checkpoints(phase)] == ["checkpoint_00000001", "checkpoint_00000002"]
    assert (phase / "checkpoint_00000003" / SET_ASIDE).is_file()
    (complaint,) = PhaseFolder(phase, "A1", select=None, done=None).complaints
    assert f"{phase}/checkpoint_00000003/players/net/optimizer.pt" in complaint


def test_where_none_is_whole_nothing_in_the_bucket_changes(phase: storage.S3Path) -> None:
    for folder in checkpoints(phase):
        cut(weights_file(folder))
    before = {str(path): path.stat().st_size for path in phase.rglob("*")}
    with pytest.raises(CheckpointError, match="got only damaged checkpoints"):
        retry_without_damaged(phase, lambda: resumed(phase))
    assert {str(path): path.stat().st_size for path in phase.rglob("*")} == before


def test_a_bucket_that_is_away_is_no_damage(
    s3: FaultyServer, phase: storage.S3Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3.failing("GET", WEIGHTS, BUSY), pytest.raises(DataError, match="SlowDown"):
        retry_without_damaged(phase, lambda: resumed(phase))

    def found_damaged() -> None:
        raise DamagedCheckpointError("so a worker said.")

    with s3.failing("GET", WEIGHTS, BUSY), pytest.raises(DataError, match="SlowDown"):
        retry_without_damaged(phase, found_damaged)
    assert len(checkpoints(phase)) == 3

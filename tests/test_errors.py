"""Transient errors are outages, which are retried; other errors are not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from pbrlib import storage
from pbrlib.data.shards.files import ShardFileCache
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.errors import CheckpointError, DamagedCheckpointError, DataError, OutageError, PbrError
from pbrlib.train.checkpoint import players
from pbrlib.train.checkpoint.players import save
from pbrlib.train.checkpoint.state import State, read_state
from tests.checkpoints import DECLARED, learned

PASSING, STAYING = errno.ESTALE, errno.EACCES


def refusing(number: int) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, "the share says so")

    return refuse


@pytest.mark.parametrize(("number", "kind"), [(PASSING, OutageError), (STAYING, DataError)])
def test_an_unreadable_shard_is_an_outage_or_damage(
    shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PbrError]
) -> None:
    monkeypatch.setattr(ShardFileCache, "read", refusing(number))
    with pytest.raises(DataError, match=r"cannot be read now .*the share says so") as caught:
        shard_set.read_crop(shard_set.rows[0], Window(0, 0, 8, 8), ["albedo"])
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [(PASSING, OutageError), (STAYING, CheckpointError), (errno.EIO, DamagedCheckpointError)],
)
def test_an_unreadable_checkpoint_is_an_outage_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PbrError]
) -> None:
    monkeypatch.setattr(Path, "read_text", refusing(number))
    with pytest.raises(PbrError, match="the share says so") as caught:
        read_state(tmp_path)
    assert type(caught.value) is kind


@pytest.mark.parametrize(("number", "kind"), [(PASSING, OutageError), (errno.ENOSPC, CheckpointError)])
def test_an_unwritable_checkpoint_is_an_outage_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PbrError]
) -> None:
    monkeypatch.setattr(players, "save_file", refusing(number))
    network = torch.nn.Linear(1, 1)
    nothing = State(phase="A1", fingerprint="", step=3, total_steps=4, metrics={}, players=DECLARED)
    optimizer = torch.optim.SGD(network.parameters())
    with pytest.raises(PbrError, match=r"step 3 could not be written .*the share says so") as caught:
        save(tmp_path / "checkpoint", state=nothing, learned=learned(network, optimizer))
    assert type(caught.value) is kind
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(("number", "kind"), [(PASSING, OutageError), (errno.ENOSPC, DataError)])
def test_an_unwritable_record_is_an_outage_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PbrError]
) -> None:
    monkeypatch.setattr(Path, "write_bytes", refusing(number))
    with pytest.raises(PbrError, match="the share says so") as caught:
        storage.write_atomic(tmp_path / "run.json", "{}")
    assert type(caught.value) is kind
    assert not [*tmp_path.iterdir()]

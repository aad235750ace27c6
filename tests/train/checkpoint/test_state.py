from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pbrlib import storage
from pbrlib.errors import CheckpointError, DamagedCheckpointError
from pbrlib.train.checkpoint.players import (
    load_weights,
    read_weights,
    restore,
    save,
    verify,
    weights_file,
)
from pbrlib.train.checkpoint.state import (
    OPTIMIZER,
    PLAYERS,
    STATE,
    UNFINISHED,
    WEIGHTS,
    State,
    is_complete,
    read_state,
    write_state,
)
from tests.checkpoints import NET, files_of, learned
from tests.damage import flip


def network(width: int = 4) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


def state(step: int = 7) -> State:
    return State(
        "S0", "f" * 64, step, 10, {"val/all/segmentation/miou": 0.5}, {NET: {"role": "segmentation"}}
    )


def saved(folder: Path, net: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    save(folder, state=state(), learned=learned(net, optimizer))
    return optimizer


@pytest.mark.parametrize("name", [STATE, *files_of(NET)])
@pytest.mark.parametrize("way", ["cut", "missing"])
def test_a_checkpoint_of_which_a_file_was_cut_or_lost_is_damaged(tmp_path: Path, name: str, way: str) -> None:
    net = network()
    optimizer = saved(tmp_path / "c", net)
    path = tmp_path / "c" / name
    path.write_bytes(path.read_bytes()[:-100])
    if way == "missing":
        path.unlink()
    with pytest.raises(DamagedCheckpointError, match=name.replace(".", r"\.")):
        restore(tmp_path / "c", fingerprint="f" * 64, learned=learned(net, optimizer))
    with pytest.raises(DamagedCheckpointError, match=name.replace(".", r"\.")):
        verify(tmp_path / "c")


def test_weights_with_a_wrong_checksum_are_never_read(tmp_path: Path) -> None:
    saved(tmp_path / "c", network())
    flip(weights_file(tmp_path / "c"), -1)
    with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors: .*SHA-256"):
        read_weights(tmp_path / "c")
    with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors: .*SHA-256"):
        load_weights(tmp_path / "c", network())


def test_a_file_that_is_temporarily_unavailable_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "c", network())

    def refuse(place: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pbrlib.storage.sha256", refuse)
    with pytest.raises(CheckpointError, match="Permission denied") as caught:
        read_weights(tmp_path / "c")
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_a_checkpoint_is_synced_before_its_name_and_then_the_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / UNFINISHED, network())
    names = {path.stat().st_ino: path.name for path in (tmp_path, *tmp_path.rglob("*"))}
    done, rename = list[str](), os.rename

    def renamed(source: Path, target: Path) -> None:
        done.append("renamed")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", lambda file: done.append(names[os.fstat(file).st_ino]))
    monkeypatch.setattr(os, "rename", renamed)
    storage.move_folder(tmp_path / UNFINISHED, tmp_path / "c", last=STATE)
    assert {*done[:3]} == {STATE, WEIGHTS, OPTIMIZER}
    assert done[3:] == [NET, PLAYERS, UNFINISHED, "renamed", tmp_path.name]


def test_a_restored_network_and_optimizer_are_those_that_were_saved(tmp_path: Path) -> None:
    net, other = network(), network()
    optimizer = saved(tmp_path / "c", net)
    fresh = torch.optim.AdamW(other.parameters())
    assert restore(tmp_path / "c", fingerprint="f" * 64, learned=learned(other, fresh)) == state()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    for ours, theirs in zip(
        optimizer.state_dict()["state"].values(), fresh.state_dict()["state"].values(), strict=True
    ):
        assert torch.equal(ours["exp_avg"], theirs["exp_avg"])


def test_a_checkpoint_of_another_architecture_is_an_error_with_the_differences(tmp_path: Path) -> None:
    saved(tmp_path / "c", network(4))
    with pytest.raises(
        CheckpointError, match=r"another architecture \(\d+ differences: .*0\.bias is \(4,\), .*\(8,\)"
    ):
        load_weights(tmp_path / "c", network(8))


def test_the_network_is_unchanged_after_a_rejected_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path / "c", network(4))
    other = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="not part of the network"):
        load_weights(tmp_path / "c", other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


NO_SPACE = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from pbrlib.errors import CheckpointError
from pbrlib.train.checkpoint.players import Learned, save
from pbrlib.train.checkpoint.state import State
limit = int(sys.argv[2])
net = nn.Linear(128, 128)
optimizer = torch.optim.AdamW(net.parameters())
net(torch.rand(1, 128)).sum().backward()
optimizer.step()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    learned = {"net": Learned(net, optimizer)}
    save(Path(sys.argv[1]), state=State("S0", "f", 3, 5, {}, {"net": {}}), learned=learned)
except CheckpointError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("limit", [20_000, 100_000, 10])
def test_a_full_disk_is_a_single_error_and_no_files_remain(tmp_path: Path, limit: int) -> None:
    # The weights take 66 kB, the optimizer 133 kB: the limits stop the first, the second, and everything.
    done = subprocess.run(
        [sys.executable, "-c", NO_SPACE, str(tmp_path / "c"), str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "the checkpoint of step 3 could not be written" in done.stdout
    assert "Free space" in done.stdout
    assert not (tmp_path / "c").exists()


def test_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "c", network())
    path = tmp_path / "c" / "state.json"
    write_state(tmp_path / "c", replace(state(), format_version=9))
    with pytest.raises(CheckpointError, match="format version 9, this version of pbr reads 1, 2, 3, 4"):
        read_state(tmp_path / "c")
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not a readable state"):
        read_state(tmp_path / "c")
    path.unlink()
    assert not is_complete(tmp_path / "c")

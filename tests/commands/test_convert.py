from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from pbrlib.inference.chain import Chain, TextureInput
from pbrlib.maps import TRUE_PBR
from pbrlib.textures.blocks import encode_dds
from pbrlib.textures.layouts import Block
from ray_jobs.cli import main


class GreyNetworks:
    roles = tuple(TRUE_PBR)

    def predict(self, texture: TextureInput) -> dict[str, Tensor]:
        grey = texture.diffuse.mean(dim=0, keepdim=True)
        return {**dict.fromkeys(TRUE_PBR, grey), "albedo": texture.diffuse}


def save(path: Path) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    levels = [np.full((side, side, 4), 200, np.uint8) for side in (8, 4, 2, 1)]
    path.write_bytes(encode_dds(levels, block=Block.BC7, srgb=False))


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(runs: Path, *, device: torch.device) -> GreyNetworks:
        assert device == torch.device("cpu")
        return GreyNetworks()

    monkeypatch.setattr(Chain, "open", opened)


def convert(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["convert", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.mark.usefixtures("networks")
def test_a_converted_folder_exits_with_0_and_says_where_it_is(tmp_path: Path) -> None:
    save(tmp_path / "in/wall.dds")
    save(tmp_path / "in/wall_n.dds")
    code, output = convert(tmp_path, tmp_path / "in", tmp_path / "out", "--device", "cpu", "--workers", "1")
    assert code == 0, output
    assert "1 converted" in output
    assert (tmp_path / "out/textures/PBR/wall_rmaos.dds").exists()


@pytest.mark.usefixtures("networks")
def test_a_failed_texture_exits_with_1_and_its_reason(tmp_path: Path) -> None:
    save(tmp_path / "in/wall.dds")
    (tmp_path / "in/wall_n.dds").write_bytes(b"DDS absurd")
    code, output = convert(tmp_path, tmp_path / "in", tmp_path / "out", "--device", "cpu")
    assert code == 1
    assert "1 failed" in output


def test_bad_arguments_exit_with_2_before_anything_is_read(tmp_path: Path) -> None:
    code, output = convert(tmp_path, tmp_path, tmp_path / "out")
    assert code == 2
    assert "got an output inside the input" in output
    for name in ("runs", "in"):
        (tmp_path / name).mkdir()
    code, output = convert(tmp_path / "runs", tmp_path / "in", tmp_path / "out", "--device", "abacus")
    assert code == 2
    assert "--device abacus" in output

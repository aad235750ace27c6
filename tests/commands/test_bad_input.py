"""Twelve things that users get wrong: each one message with a way out, exit code 2, and no traceback.

A full disk is tested in tests/train/checkpoint/test_state.py; a loss that is not finite stands here and, on
Ray, in tests/ray/test_train.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pbrlib.inference.chain import Chain
from pbrlib.maps import TRUE_PBR
from ray_jobs.cli import main
from tests.conftest import ALBEDO, METALLIC, SEGFORMER
from tests.convert.textures import FakeNetworks

Train = Callable[..., Result]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def refused(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.output, result.output


@pytest.fixture
def train(tmp_path: Path, shard_folder: Path) -> Train:
    """Trains a text as a curriculum, in this process."""

    def train(text: str, *more: str, runs: Path | None = None, data: Path | None = None) -> Result:
        file = tmp_path / "curriculum.yaml"
        file.write_text(text)
        places = ["--data", str(data or shard_folder), "--runs", str(runs or tmp_path / "runs")]
        return run("train", str(file), *places, "--local", *more)

    return train


@pytest.fixture
def broken_shards(shard_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shard_folder, tmp_path / "shards"))


@pytest.fixture
def own_runs(trained_runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_runs, tmp_path / "own"))


def picture(path: Path, colour: tuple[int, int, int] = (128, 128, 255)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 3, (64, 64, 3))
    Image.fromarray((np.array(colour) - noise).astype(np.uint8)).save(path)


def test_1_unknown_key(train: Train) -> None:
    result = train(SEGFORMER.replace("crop: 64", "crop: 64\n    lerning_rate: 3"))
    refused(result, "phases.S0.lerning_rate: unknown key. Known: ", "optimizer", "crop")


def test_2_unknown_loss_term_with_a_suggestion(train: Train) -> None:
    result = train(SEGFORMER.replace("dice: 0.1", "dise: 0.1"))
    refused(result, "phases.S0.loss.dise", "dice")


def test_3_crop_against_stride(train: Train) -> None:
    result = train(SEGFORMER, "--set", "phases.S0.crop=500")
    refused(
        result, "phases.S0.crop: got 500; expected a multiple of 32, the stride of segformer. Use 480 or 512."
    )


def test_4_optimizer_rule_without_a_match(train: Train) -> None:
    rule = "optimizer: {lr: 1.0e-3, groups: {stem: {match: 'encodr.stages.0.*', freeze: true}}}"
    result = train(SEGFORMER.replace("optimizer: {lr: 1.0e-3}", rule))
    refused(result, "phases.S0.optimizer.groups.stem", "encodr.stages.0.*", "encoder")


@pytest.mark.ray
def test_5_missing_map(ray_cluster: None, tmp_path: Path) -> None:
    picture(tmp_path / "set" / "rock" / "albedo.png", (90, 80, 70))
    result = run("prepare", str(tmp_path / "set"), "--out", str(tmp_path / "shards"), "--val-share", "1")
    refused(result, "rock", "normal")
    assert not (tmp_path / "shards" / "manifest.json").exists()


@pytest.mark.ray
def test_6_truncated_png(ray_cluster: None, tmp_path: Path) -> None:
    for name in ("albedo", "normal"):
        picture(tmp_path / "set" / "rock" / f"{name}.png")
    whole = (tmp_path / "set" / "rock" / "normal.png").read_bytes()
    (tmp_path / "set" / "rock" / "normal.png").write_bytes(whole[: len(whole) // 2])
    result = run("prepare", str(tmp_path / "set"), "--out", str(tmp_path / "shards"), "--val-share", "1")
    refused(result, "normal.png")
    assert not (tmp_path / "shards" / "manifest.json").exists()


def test_7_corrupted_shard(train: Train, broken_shards: Path) -> None:
    (shard,) = (broken_shards / "shards").glob("*.parquet")
    content = bytearray(shard.read_bytes())
    for position in range(20_000, len(content) - 40_000, 15_000):
        content[position] ^= 0xFF
    shard.write_bytes(content)
    refused(train(SEGFORMER, data=broken_shards), shard.name)


def test_8_shard_set_without_manifest(train: Train, broken_shards: Path) -> None:
    (broken_shards / "manifest.json").unlink()
    refused(train(SEGFORMER, data=broken_shards), str(broken_shards), "no manifest.json", "pbr prepare")


def test_9_checkpoint_of_another_architecture(train: Train, own_runs: Path) -> None:
    record = json.loads((own_runs / "albedo" / "run.json").read_text())
    folder = own_runs / "albedo" / record["phases"]["A1"]["checkpoint"]
    wider = ALBEDO.replace("width: 8", "width: 16").replace(
        "epochs: 2", f"starts_from: {folder}\n    epochs: 2"
    )
    result = train(wider, runs=own_runs)
    refused(result, "another architecture", "differences", str(folder))


def test_10_a_donor_that_is_not_trained(train: Train) -> None:
    refused(train(METALLIC), "segformer", "Train it first")


def test_11_a_loss_that_is_not_finite(train: Train, own_runs: Path) -> None:
    result = train(ALBEDO, "--set", "phases.A1.optimizer.lr=1e30", runs=own_runs)
    refused(result, "phase A1, step", "not finite", "Terms: ", "Samples: ")


def test_12_dds_with_an_absurd_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chain, "open", lambda runs, *, device: FakeNetworks())
    old = tmp_path / "old" / "textures"
    picture(old / "good_n.png")
    (tmp_path / "runs").mkdir()
    header = bytearray(128)
    header[:4], header[4:8], header[76:80] = b"DDS ", (124).to_bytes(4, "little"), (32).to_bytes(4, "little")
    header[12:16] = header[16:20] = (2**31).to_bytes(4, "little")
    header[80:84], header[84:88] = (4).to_bytes(4, "little"), b"DXT1"
    (old / "good.dds").write_bytes(header)
    result = run("convert", str(tmp_path / "runs"), str(tmp_path / "old"), str(tmp_path / "new"))
    # A file that cannot be read costs itself, not the run: exit code 1, listed with its reason.
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    (failed,) = json.loads((tmp_path / "new" / "report.json").read_text())["left_out"]
    assert (failed["path"], failed["fate"]) == ("good.dds", "failed")
    assert "got width 2147483648; expected 1..16384" in failed["reason"]
    assert "good.dds" in result.output


def test_a_chain_without_every_map_converts_nothing(own_runs: Path, tmp_path: Path) -> None:
    picture(tmp_path / "old" / "rock.png")
    picture(tmp_path / "old" / "rock_n.png")
    result = run("convert", str(own_runs), str(tmp_path / "old"), str(tmp_path / "new"))
    missing = f"no trained network for {', '.join(name for name in TRUE_PBR if name != 'albedo')}, which"
    refused(result, f"{own_runs}: {missing}", "found: albedo, segmentation", "Train those curricula")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.json"]


def test_the_command_line_leaves_nothing_half_written(train: Train, tmp_path: Path) -> None:
    train(SEGFORMER.replace("dice: 0.1", "dise: 0.1"))
    assert not (tmp_path / "runs").exists()

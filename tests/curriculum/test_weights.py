"""Files of weights: found from where the command stands, and read only by a phase that begins from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.curriculum.spec import Curriculum
from pbrlib.curriculum.weights import with_absolute_paths
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import CheckpointError
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import ALBEDO, SEGFORMER

SECOND = SEGFORMER[SEGFORMER.index("  S0:") :].replace("S0:", "S1:\n    starts_from: S0")


def pretrained(source: str) -> Curriculum:
    text = SEGFORMER.replace("decoder_width: 16", f"decoder_width: 16, pretrained: {source}") + SECOND
    return parse_curriculum(text)


def test_relative_files_become_whole_paths_and_everything_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("alexnet.pth", "random", "none"):
        Path(name).touch()
    Path("mit").mkdir()

    def backbone(written: str) -> str:
        text = ALBEDO.replace("loss: {", f"loss: {{lpips: {{weight: 0.05, backbone: {written}}}, ")
        lpips = next(iter(with_absolute_paths(parse_curriculum(text)).phases.values())).loss.lpips
        assert lpips is not None
        return lpips.backbone

    assert backbone("alexnet.pth") == str(tmp_path / "alexnet.pth")
    assert backbone("random") == "random"
    assert with_absolute_paths(pretrained("mit")).task.model.pretrained == str(tmp_path / "mit")
    for written in ("none", "nvidia/mit-b2"):
        assert with_absolute_paths(pretrained(written)).task.model.pretrained == written


def test_only_the_phase_that_begins_from_pretrained_weights_reads_them(
    shard_folder: Path, tmp_path: Path
) -> None:
    shards, runtime, folder = ShardSet.open(shard_folder), RuntimeSpec(workers=1), tmp_path / "mit"
    config = SegformerConfig(
        num_channels=3,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    curriculum = pretrained(str(folder))

    def train(phase: str) -> int:
        job = resolve(curriculum, phase, shards=shards, runs=tmp_path / "runs", runtime=runtime)
        return carry_out(job, launch_local).step

    assert train("S0") == 2
    shutil.rmtree(folder)
    assert train("S1") == 2
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(CheckpointError, match=r"pretrained: .*mit cannot be read"):
        train("S0")

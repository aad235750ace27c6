from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pbrlib.data.shards.index import IndexRow, Split
from pbrlib.maps import MAPS

SEGFORMER = """\
name: segformer
task:
  kind: segmentation
  model: {kind: segformer, backbone: custom, hidden_sizes: [8, 16, 32, 64], depths: [1, 1, 1, 1],
          num_heads: [1, 1, 2, 2], decoder_width: 32}
phases:
  S0:
    epochs: 2
    crop: 64
    batch: 8
    data: {generated: 1.0}
    optimizer: {kind: adamw, lr: 4e-4}
    schedule: {kind: one_cycle, pct_start: 0.15, div_factor: 4, final: 1e-5}
    loss: {cross_entropy: 0.6, focal: {weight: 0.3, gamma: {stone: 2.0, metal: 1.5}}, dice: 0.1}
  S1:
    starts_from: S0
    epochs: 1
    crop: 96
    batch: 4
    data: {generated: 1.0}
    optimizer:
      kind: adamw
      lr: 1e-4
      layer_decay: 0.9
      groups: {stem: {match: "encoder.stages.0.*", freeze: true}}
    schedule: {kind: cosine, final: 8e-6}
    loss: {cross_entropy: 0.6, dice: 0.4}
"""

ROUGHNESS = """\
name: roughness
task: {kind: roughness, model: {kind: unet, width: 8, depth: 2}, segformer: segformer, albedo: albedo.A2}
phases:
  M0:
    starts_from: albedo.A2
    epochs: 2
    crop: 64
    batch: 4
    data: {generated: 1.0}
    optimizer: {kind: adamw, lr: 2e-4, groups: {encoder: {match: "encoder.*", lr: 5e-5, layer_decay: 0.9}}}
    schedule: {kind: cosine, final: 5e-6}
    loss: {focal_relative_l1: 1.0, ms_ssim: 0.1, sobel: 0.02}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a text to a YAML file and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "curriculum.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def row(name: str, *, split: Split = "train", tileable: bool = True, side: int = 256) -> IndexRow:
    """A material of a shard set with every map."""
    return IndexRow(
        id=name,
        source="generated",
        family=name,
        split=split,
        label="stone",
        shard=0,
        first_row=0,
        height=side,
        width=side,
        tileable=tileable,
        maps=tuple(MAPS),
        class_pixels=(0, 0, 0, 0, 0, side * side, 0),
        cells=b"",
        means={},
        licence="CC0",
        attribution="",
    )


@pytest.fixture
def rows() -> list[IndexRow]:
    """Three materials to train on and one for validation."""
    return [row("a"), row("b"), row("c"), row("d", split="val")]

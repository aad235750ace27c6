"""A phase with every layer of balance and with mosaics, trained for a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from pbrlib.curriculum.check.curriculum import check
from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.data.shards.reader import ShardSet
from pbrlib.inference.opened import open_network
from pbrlib.models.roles import SegmentationDeclaration
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import SEGFORMER

LAYERS = """
    balance:
      sampler: {exponent: 0.4, floor: 0.3}
      minority: [metal]
      minority_tiles: 0.25
      mask_dropout: {stone: 0.2, wood: 0.2}
    mosaic: {sources: [generated], two: 0.25, four: 0.25}
"""


def test_a_phase_trains_with_every_layer_of_balance_and_mosaics(shard_folder: Path, tmp_path: Path) -> None:
    text = SEGFORMER.replace("    crop: 64\n", "    crop: 64" + LAYERS)
    text = text.replace("  kind: segmentation\n", "  kind: segmentation\n  merge: {ceramic: stone}\n")
    curriculum = parse_curriculum(text)
    shards = ShardSet.open(shard_folder)
    runtime = RuntimeSpec(workers=1, record_batches=True, batch_per_device=2)
    check(curriculum, place="file.yaml", runtime=runtime, rows=shards.rows)
    job = resolve(curriculum, "S0", shards=shards, runs=tmp_path, runtime=runtime)
    done = carry_out(job, launch_local)
    assert "val/all/segmentation/miou" in done.metrics
    assert "val/all/segmentation/iou/ceramic" not in done.metrics
    declared, _ = open_network(tmp_path / "segformer" / done.checkpoint, device=torch.device("cpu"))
    assert isinstance(declared, SegmentationDeclaration)
    assert declared.merge == {"ceramic": "stone"}
    lines = (job.directory / "batches-rank0.jsonl").read_text().splitlines()
    ids = [sample for line in lines for sample, _ in json.loads(line)["samples"]]
    assert sorted(1 + name.count("+") for name in ids) == [1] * 4 + [2] * 2 + [4] * 2

"""Tests which tasks ignore the seams of mosaics in every term."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pbrlib.data.augment.assembly import region_map
from pbrlib.data.draws.mosaic import Layout
from pbrlib.data.shards.reader import ShardSet
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.masks import seams
from pbrlib.tasks.build import build_task
from tests.tasks.test_tasks import TASKS, batch_of, frozen


@pytest.mark.parametrize("kind", ["albedo", "roughness", "metallic", "height", "ao"])
def test_all_terms_of_height_and_ao_ignore_seams(kind: str, shard_set: ShardSet, trained_runs: Path) -> None:
    spec, loss = TASKS[kind]
    task = build_task(
        spec,
        losses={spec.kind: LossSpec.model_validate({**loss, "ms_ssim": 0.1})},
        class_weights=None,
        frozen=frozen(trained_runs),
        device=torch.device("cpu"),
    )
    layouts = [Layout.QUARTERS, Layout.SINGLE, Layout.STACKED, Layout.SIDE_BY_SIDE]
    whole = batch_of(shard_set, spec)
    batch = replace(whole, regions=region_map(layouts, size=(64, 64), device=torch.device("cpu")))
    assert batch.regions is not None
    band = seams(batch.regions)
    assert torch.equal(task.prepare(whole, training=True).target.valid, whole.valid)
    example = task.prepare(batch, training=True)
    logits = torch.zeros_like(batch.maps[kind]).requires_grad_()
    recipe = task.players[0].module.recipe
    recipe(logits, example.target).total.backward()
    assert logits.grad is not None
    in_band = logits.grad.abs().amax(dim=1, keepdim=True)[band]
    if kind in ("height", "ao"):
        assert float(in_band.max()) == 0.0
        assert torch.equal(example.target.valid, whole.valid & ~band)
    else:
        assert float(in_band.max()) > 0.0
        assert torch.equal(example.target.valid, whole.valid)

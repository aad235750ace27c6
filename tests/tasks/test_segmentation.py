"""Tests of segmentation labels: merged classes, and pixels excluded from the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from pbrlib.data.draws.batch import Batch
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.recipe import Recipe
from pbrlib.maps import CLASSES, IGNORE
from pbrlib.models.modelspec import SegformerSpec
from pbrlib.tasks.segmentation import SegmentationTask, drop_labels, merge_labels
from pbrlib.tasks.taskspec import SegmentationSpec

STONE, WOOD, CERAMIC = (CLASSES.index(name) for name in ("stone", "wood", "ceramic"))
SHARES = {"stone": 0.2, "wood": 0.5}
MODEL = SegformerSpec(
    backbone="custom",
    hidden_sizes=(8, 8, 16, 16),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 2, 2),
    decoder_width=16,
)


def labels_of(num: int = 4, *, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, len(CLASSES) + 1, (num, side, side), generator=generator)
    return torch.where(labels == len(CLASSES), IGNORE, labels)


def batch_of(labels: torch.Tensor) -> Batch:
    num, side = labels.shape[:2]
    generator = torch.Generator().manual_seed(2)
    colours = {
        name: torch.rand(num, 3, side, side, generator=generator) for name in ("diffuse", "albedo", "normal")
    }
    return Batch(
        maps={**colours, "mask": labels},
        valid=torch.ones(num, 1, side, side, dtype=torch.bool),
        seeds=torch.arange(num) + 7,
        ids=tuple("abcd"[:num]),
        classes=torch.full((num,), IGNORE),
        present={"albedo": torch.ones(num, dtype=torch.bool)},
    )


def task_of(
    *, dropout: dict[str, float] | None = None, merge: dict[str, str] | None = None
) -> SegmentationTask:
    return SegmentationTask(
        SegmentationSpec(model=MODEL, merge=merge),
        loss=LossSpec.model_validate({"dice": 1.0}),
        class_weights=None,
        mask_dropout=dropout,
    )


@pytest.mark.parametrize("term", ["cross_entropy", "focal", "dice"])
def test_dropped_pixels_are_excluded_from_every_term(term: str) -> None:
    batch = batch_of(labels_of())
    target = task_of(dropout=SHARES).prepare(batch, training=True).target
    assert target.labels is not None
    dropped = (target.labels == IGNORE) & (batch.maps["mask"] != IGNORE)
    assert dropped.any()
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(4, len(CLASSES), 64, 64, generator=generator).requires_grad_()
    loss = Recipe(LossSpec.model_validate({term: 1.0}))
    value = loss(logits, target).total
    value.backward()
    assert logits.grad is not None
    over_classes = logits.grad.abs().amax(dim=1)
    assert over_classes[dropped].max() == 0.0
    assert over_classes[target.labels != IGNORE].min() > 0.0
    elsewhere = torch.where(dropped[:, None], 9.0, logits.detach())
    torch.testing.assert_close(loss(elsewhere, target).total, value.detach(), rtol=1e-6, atol=0)


def test_only_the_named_classes_drop_pixels_and_each_its_own_share() -> None:
    labels = labels_of(side=128)
    left = drop_labels(labels, seeds=[1, 2, 3, 4], shares=SHARES)
    assert torch.equal(left[left != IGNORE], labels[left != IGNORE])
    for number, name in enumerate(CLASSES):
        gone = (left[labels == number] == IGNORE).float().mean()
        assert float(gone) == pytest.approx(SHARES.get(name, 0.0), abs=0.02)


def test_a_draw_drops_by_its_own_seed_at_any_position() -> None:
    labels = torch.full((3, 32, 32), STONE)
    left = drop_labels(labels, seeds=[5, 6, 5], shares=SHARES)
    assert torch.equal(left[0], left[2])
    assert not torch.equal(left[0], left[1])
    assert torch.equal(drop_labels(labels[:1], seeds=[6], shares=SHARES)[0], left[1])


def test_validation_drops_nothing() -> None:
    batch = batch_of(labels_of())
    labels = task_of(dropout=SHARES).prepare(batch, training=False).target.labels
    assert labels is not None
    assert torch.equal(labels, batch.maps["mask"])


def test_merged_pixels_count_as_the_target_class_in_labels_and_metrics() -> None:
    labels = torch.full((1, 64, 64), CERAMIC)
    labels[:, :10] = IGNORE
    labels[:, 10:20] = WOOD
    merged = merge_labels(labels, {"ceramic": "stone"})
    assert merged.unique().tolist() == [STONE, WOOD, IGNORE]
    batch = batch_of(labels)
    task = task_of(merge={"ceramic": "stone"}).evaluate
    names = task(batch).results()
    assert {name for name in names if "/iou/" in name} == {
        "segmentation/iou/stone",
        "segmentation/iou/wood",
    }
    prepared = task_of(merge={"ceramic": "stone"}, dropout={"stone": 1.0}).prepare(batch, training=True)
    assert prepared.target.labels is not None
    assert prepared.target.labels.unique().tolist() == [WOOD, IGNORE]


def test_without_merging_labels_are_those_of_the_mask() -> None:
    batch = batch_of(labels_of())
    assert task_of().prepare(batch, training=True).target.labels is batch.maps["mask"]
    unlabelled = replace(batch, maps=batch.maps | {"mask": torch.full_like(batch.maps["mask"], IGNORE)})
    assert task_of().evaluate(unlabelled).results() == {}


def test_a_class_merged_into_one_that_is_merged_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="got ceramic merged into stone, which is merged too"):
        SegmentationSpec(merge={"ceramic": "stone", "stone": "ground"})
    with pytest.raises(ValidationError, match="got stone merged into stone"):
        SegmentationSpec(merge={"stone": "stone"})

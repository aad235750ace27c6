"""Tests that unlabelled samples are augmented by their confidently predicted class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pbrlib.data.augment.augmentspec import AugmentSpec, CategorySpec
from pbrlib.data.augment.category import apply_changes, draw_changes
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import Batch
from pbrlib.inference.chain import Condition
from pbrlib.losses.lossspec import LossSpec
from pbrlib.maps import CLASSES, IGNORE, class_id
from pbrlib.models.modelspec import UNetSpec
from pbrlib.tasks.maps import MapTask
from pbrlib.tasks.taskspec import AlbedoSpec
from tests.data.augment.test_category import MAY
from tests.data.augment.test_pipeline import raw_batch

SPEC = CategorySpec.model_validate({"p": 1.0, "confidence": 0.8, "may": MAY})


@dataclass
class FakeChain:
    """Networks that return a fixed class and probability for each sample of any batch."""

    answers: list[tuple[str, float]]

    def __post_init__(self) -> None:
        self.segmentation = SimpleNamespace(feature_channels=3)
        self.seen: list[Tensor] = []

    def condition(self, colour: Tensor, normal: Tensor) -> Condition:
        """Return the mean colour as features, which identifies the input picture."""
        self.seen.append(colour)
        num = len(colour)
        probabilities = torch.zeros(num, len(CLASSES), *colour.shape[-2:])
        for answer, (name, share) in zip(probabilities, self.answers, strict=False):
            answer[:] = (1.0 - share) / (len(CLASSES) - 1)
            answer[class_id(name)] = share
        return Condition(probabilities, colour.mean(dim=(-2, -1), keepdim=True))


def task_with(answers: list[tuple[str, float]], *, category: CategorySpec | None = SPEC) -> MapTask:
    chain: Any = FakeChain(answers)
    spec = AlbedoSpec(model=UNetSpec(width=8, depth=2))
    return MapTask(spec, chain=chain, loss=LossSpec.model_validate({"l1": 1.0}), category=category)


def unlabelled(num: int = 3) -> Batch:
    batch = augment(raw_batch(num, size=32), AugmentSpec(), device="cpu")
    return replace(batch, classes=torch.full((num,), IGNORE))


def test_a_confident_prediction_replaces_the_label_and_the_condition_is_recomputed() -> None:
    batch = unlabelled()
    task = task_with([("metal", 0.9), ("stone", 0.7), ("leather", 0.95)])
    example = task.prepare(batch, training=True)
    labels = [class_id("metal"), IGNORE, class_id("leather")]
    expected = apply_changes(batch.maps, draw_changes(labels, seeds=batch.seeds.tolist(), spec=SPEC))
    assert torch.equal(example.x[:, :3], expected["diffuse"])
    assert torch.equal(example.target.map, expected["albedo"])
    assert torch.equal(example.condition, expected["diffuse"].mean(dim=(-2, -1), keepdim=True))
    assert torch.equal(example.x[1, :3], batch.maps["diffuse"][1])
    assert not torch.equal(example.x[2, :3], batch.maps["diffuse"][2])
    assert [len(colour) for colour in task.chain.seen] == [3, 2]


def test_a_warp_moves_the_target_with_the_input() -> None:
    batch = unlabelled(1)
    example = task_with([("fabric", 0.9)]).prepare(batch, training=True)
    assert not torch.equal(example.x[:, 3:6], batch.maps["normal"])
    assert torch.equal(example.target.normal, example.x[:, 3:6])


@pytest.mark.parametrize("share", [0.79, 0.3])
def test_a_prediction_below_the_confidence_changes_nothing(share: float) -> None:
    batch = unlabelled(1)
    task = task_with([("metal", share)])
    assert torch.equal(task.prepare(batch, training=True).x[:, :3], batch.maps["diffuse"])
    assert len(task.chain.seen) == 1


def test_a_sample_with_a_label_is_not_changed_a_second_time() -> None:
    batch = unlabelled(1)
    batch = replace(batch, classes=torch.tensor([class_id("wood")]))
    example = task_with([("metal", 0.99)]).prepare(batch, training=True)
    assert torch.equal(example.x[:, :3], batch.maps["diffuse"])


def test_a_mosaic_is_not_changed_as_one_material() -> None:
    batch = unlabelled(2)
    regions = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    regions[0, :, :, 16:] = 1
    example = task_with([("metal", 0.9), ("metal", 0.9)]).prepare(
        replace(batch, regions=regions), training=True
    )
    assert torch.equal(example.x[0, :3], batch.maps["diffuse"][0])
    assert not torch.equal(example.x[1, :3], batch.maps["diffuse"][1])


@pytest.mark.parametrize(("training", "category"), [(False, SPEC), (True, None)])
def test_nothing_changes_while_validating_or_without_category_changes(
    training: bool, category: CategorySpec | None
) -> None:
    batch = unlabelled(1)
    task = task_with([("metal", 0.99)], category=category)
    example = task.prepare(batch, training=training)
    assert torch.equal(example.x[:, :3], batch.maps["diffuse"])
    assert torch.equal(example.target.map, batch.maps["albedo"])


def test_augmentation_does_not_change_the_batch_itself() -> None:
    batch = unlabelled(2)
    before = {name: x.clone() for name, x in batch.maps.items()}
    task_with([("metal", 0.9), ("fabric", 0.9)]).prepare(batch, training=True)
    assert all(torch.equal(x, before[name]) for name, x in batch.maps.items())

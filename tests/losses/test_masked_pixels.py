"""Tests that no term depends on invalid pixels of target or prediction."""

import dataclasses

import pytest
import torch

from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.recipe import Recipe
from pbrlib.losses.target import LossTarget
from pbrlib.losses.termspec import ClassTermSpec
from pbrlib.metrics.images import map_metrics
from tests.losses.conftest import image_batch, label_batch

TERMS = LossSpec.term_types()
REQUIRED = {"lpips": {"backbone": "random", "net": "squeeze"}}


def recipe(name):
    return Recipe(LossSpec.model_validate({name: {"weight": 1.0, **REQUIRED.get(name, {})}}))


def batch_of(name, *, side):
    make = label_batch if issubclass(TERMS[name], ClassTermSpec) else image_batch
    logits, target = make(3, side=side)
    valid = target.valid.clone()
    valid[0, :, : side // 2, side // 3 :] = False
    valid[2] = False
    return logits, dataclasses.replace(target, valid=valid)


def refilled(target, *, seed):
    """Return the target with other values in every invalid pixel."""
    generator = torch.Generator().manual_seed(seed)

    def other(x, low, high):
        if x is None:
            return None
        noise = low + (high - low) * torch.rand(x.shape, generator=generator).round(decimals=1)
        return torch.where(target.valid if x.ndim == 4 else target.valid[:, 0], x, noise.to(x.dtype))

    normal = other(target.normal, -1.0, 1.0)
    return LossTarget(
        map=other(target.map, 0.0, 1.0), labels=other(target.labels, 0, 6), valid=target.valid, normal=normal
    )


@pytest.mark.parametrize("side", [24, 72])
@pytest.mark.parametrize("name", TERMS)
def test_ignored_pixels_change_neither_value_nor_gradient(name, side):
    logits, target = batch_of(name, side=side)
    generator = torch.Generator().manual_seed(7)
    noise = 5 * torch.randn(logits.shape, generator=generator)
    found = []
    for given, wanted in (
        (logits, target),
        (logits, refilled(target, seed=1)),
        (torch.where(target.valid, logits, noise), target),
        (torch.where(target.valid, logits, noise), refilled(target, seed=2)),
    ):
        leaf = given.clone().requires_grad_()
        total = recipe(name)(leaf, wanted).total
        total.backward()
        assert leaf.grad[(~target.valid).expand_as(leaf)].abs().max() == 0.0
        found.append((total.detach(), leaf.grad))
    assert found[0][0] > 0.0
    assert found[0][1].abs().max() > 0.0
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-8)


def test_metrics_ignore_invalid_pixels():
    logits, target = batch_of("l1", side=24)
    other = refilled(target, seed=1)
    one, two = (
        map_metrics(x.sigmoid(), wanted.map, target.valid, prefix="m").results()
        for x, wanted in ((logits, target), (torch.where(target.valid, logits, 3.0), other))
    )
    assert one == pytest.approx(two, rel=1e-5)

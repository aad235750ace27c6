"""Tests of overlap losses against smp and against explicit formulas."""

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses._functional import soft_dice_score, soft_tversky_score
from torch.autograd import gradcheck

from pbrlib.losses import overlaps


def dice_of(log_p, labels, counted=None):
    counted = torch.ones_like(labels, dtype=torch.bool) if counted is None else counted
    return overlaps.dice(overlaps.dice_sums(log_p, labels, counted))


def test_dice_agrees_with_smp_over_the_classes_present(batch):
    log_p, labels = batch
    truth = F.one_hot(labels, 4).movedim(-1, 1).double()
    # smp adds its smoothing to I and to (P + T) / 2: half of it is ours.
    scores = soft_dice_score(log_p.exp(), truth, smooth=0.5, dims=(0, 2, 3))
    assert dice_of(log_p, labels).item() == pytest.approx((1 - scores[:3]).mean().item())


def test_dice_ignores_a_class_that_is_only_predicted():
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    log_p = torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert dice_of(log_p, labels).item() == pytest.approx(1 - 5.0 / 7.0)


def test_dice_without_a_counted_pixel_is_zero_in_the_graph(batch):
    log_p, labels = batch
    log_p.requires_grad_()
    loss = dice_of(log_p, labels, torch.zeros_like(labels, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert log_p.grad is not None
    assert log_p.grad.abs().max() == 0.0


def tversky_of(prediction, target, valid=None, *, gamma=1.5):
    valid = torch.ones_like(target[:, :1], dtype=torch.bool) if valid is None else valid
    sums = overlaps.tversky_sums(prediction, target, valid)
    return overlaps.focal_tversky(sums, false_positive=0.7, false_negative=0.3, gamma=gamma)


def test_focal_tversky_agrees_with_smp(batch):
    prediction = batch[0][:, :1].exp()
    target = (batch[1] == 1).unsqueeze(1).double()
    index = soft_tversky_score(prediction, target, alpha=0.7, beta=0.3, smooth=0.0)
    assert tversky_of(prediction, target).item() == pytest.approx((1 - index.item()) ** 1.5)


def test_focal_tversky_punishes_false_positives_more():
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 4)
    over = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4)
    under = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    assert tversky_of(over, target, gamma=1.0).item() == pytest.approx(0.7 / 2.7)
    assert tversky_of(under, target, gamma=1.0).item() == pytest.approx(0.3 / 1.3)


@pytest.mark.parametrize("target", [0.0, 2 / 255])
def test_focal_tversky_without_a_positive_pixel_is_zero_in_the_graph(target):
    prediction = torch.full((1, 1, 4, 4), 0.3).requires_grad_()
    loss = tversky_of(prediction, torch.full((1, 1, 4, 4), target))
    loss.backward()
    assert loss.item() == 0.0
    assert prediction.grad is not None
    assert prediction.grad.abs().max() == 0.0


def test_gradients_are_those_of_the_value():
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(2, 3, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 3, (2, 3, 3), generator=generator)
    target = (labels == 0).unsqueeze(1).double()
    assert gradcheck(lambda x: dice_of(x.log_softmax(1), labels, labels > 0), (logits,))
    assert gradcheck(lambda x: tversky_of(x[:, :1].sigmoid(), target), (logits,))

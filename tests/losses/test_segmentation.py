"""Segmentation terms against torch, smp and formulas written out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import FocalLoss
from segmentation_models_pytorch.losses._functional import soft_dice_score, soft_tversky_score
from torch.autograd import gradcheck

from pbrlib.losses import segmentation

ONES = torch.ones(4, dtype=torch.float64)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(2, 4, 6, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 6, 7), generator=generator)
    return logits.log_softmax(dim=1), labels


def test_cross_entropy_is_torchs_per_pixel(batch):
    log_p, labels = batch
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    found = segmentation.cross_entropy(log_p, labels, class_weights=weights)
    torch.testing.assert_close(found, F.cross_entropy(log_p, labels, weight=weights, reduction="none"))


def test_focal_without_gamma_is_cross_entropy(batch):
    log_p, labels = batch
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    found = segmentation.focal(log_p, labels, class_weights=weights, gammas=0 * ONES)
    torch.testing.assert_close(found, segmentation.cross_entropy(log_p, labels, class_weights=weights))


def test_focal_gives_each_class_its_gamma_and_its_weight():
    log_p = torch.tensor([[0.25, 0.75], [0.75, 0.25]]).log().view(1, 2, 1, 2)
    labels = torch.tensor([[[0, 1]]])
    found = segmentation.focal(
        log_p, labels, class_weights=torch.tensor([1.0, 3.0]), gammas=torch.tensor([2.0, 0.5])
    )
    expected = [0.75**2 * -math.log(0.25), 3 * 0.75**0.5 * -math.log(0.25)]
    assert found.flatten().tolist() == pytest.approx(expected)


def test_focal_agrees_with_smp_on_one_gamma(batch):
    log_p, labels = batch
    found = segmentation.focal(log_p, labels, class_weights=ONES, gammas=2 * ONES).mean()
    theirs = sum(
        F.binary_cross_entropy(log_p.exp()[:, c], (labels == c).double(), reduction="none")[labels == c]
        .mul((1 - log_p.exp()[:, c][labels == c]) ** 2)
        .sum()
        for c in range(4)
    )
    assert found.item() == pytest.approx(theirs.item() / labels.numel())


def test_binary_focal_agrees_with_smp():
    x = torch.linspace(-3, 3, 8, dtype=torch.float64).view(1, 1, 2, 4)
    labels = torch.tensor([[[0, 1, 1, 0], [1, 0, 1, 1]]])
    two = torch.cat((torch.zeros_like(x), x), dim=1).log_softmax(dim=1)
    found = segmentation.focal(two, labels, class_weights=ONES[:2], gammas=2 * ONES[:2]).mean()
    assert found.item() == pytest.approx(FocalLoss("binary", alpha=None, gamma=2.0)(x, labels).item())


def test_focal_is_finite_at_saturation_below_gamma_one():
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    loss = segmentation.focal(
        logits.log_softmax(dim=1),
        torch.zeros(1, 1, 1, dtype=torch.long),
        class_weights=torch.ones(2),
        gammas=torch.full((2,), 0.5),
    )
    loss.sum().backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("wrong", [0.0, 5e-7])
def test_focal_where_the_clamp_holds_has_the_slope_of_a_constant_focus(wrong):
    log_p = torch.tensor([math.log1p(-wrong), math.log(0.5)], dtype=torch.float64).view(1, 2, 1, 1)
    labels = torch.zeros(1, 1, 1, dtype=torch.long)

    def focal(x):
        # Times 1000, since the slope is small beside the tolerance of gradcheck; a step that stays clamped.
        return 1e3 * segmentation.focal(x, labels, class_weights=3 * ONES[:2], gammas=0.5 * ONES[:2])

    log_p.requires_grad_()
    assert gradcheck(focal, (log_p,), eps=1e-8, atol=1e-6)
    focal(log_p).sum().backward()
    assert log_p.grad is not None
    assert log_p.grad.flatten().tolist() == pytest.approx([-1e3 * 3 * 1e-6**0.5, 0.0])


def dice_of(log_p, labels, counted=None):
    counted = torch.ones_like(labels, dtype=torch.bool) if counted is None else counted
    return segmentation.dice(segmentation.dice_sums(log_p, labels, counted))


def test_dice_agrees_with_smp_over_the_classes_present(batch):
    log_p, labels = batch
    truth = F.one_hot(labels, 4).movedim(-1, 1).double()
    # smp adds its smoothing to I and to (P + T) / 2: half of it is ours.
    scores = soft_dice_score(log_p.exp(), truth, smooth=0.5, dims=(0, 2, 3))
    assert dice_of(log_p, labels).item() == pytest.approx((1 - scores[:3]).mean().item())


def test_dice_leaves_out_a_class_that_is_only_predicted():
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
    sums = segmentation.tversky_sums(prediction, target, valid)
    return segmentation.focal_tversky(sums, false_positive=0.7, false_negative=0.3, gamma=gamma)


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
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    gammas = torch.tensor([2.0, 0.5, 1.2], dtype=torch.float64)
    target = (labels == 0).unsqueeze(1).double()

    def focal(x):
        return segmentation.focal(x.log_softmax(1), labels, class_weights=weights, gammas=gammas).sum()

    def cross_entropy(x):
        return segmentation.cross_entropy(x.log_softmax(1), labels, class_weights=weights).sum()

    assert gradcheck(cross_entropy, (logits,))
    assert gradcheck(focal, (logits,))
    assert gradcheck(lambda x: dice_of(x.log_softmax(1), labels, labels > 0), (logits,))
    assert gradcheck(lambda x: tversky_of(x[:, :1].sigmoid(), target), (logits,))

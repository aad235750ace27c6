"""Tests of entropies against torch, torchvision, smp and explicit formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import FocalLoss
from torch.autograd import gradcheck
from torchvision.ops import sigmoid_focal_loss

from pbrlib.losses import entropies
from tests.losses.conftest import MASK, TARGET, leaf, mean_of

ONES = torch.ones(4, dtype=torch.float64)


def test_cross_entropy_is_torchs_per_pixel(batch):
    log_p, labels = batch
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    found = entropies.cross_entropy(log_p, labels, class_weights=weights)
    torch.testing.assert_close(found, F.cross_entropy(log_p, labels, weight=weights, reduction="none"))


def test_focal_without_gamma_is_cross_entropy(batch):
    log_p, labels = batch
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    found = entropies.focal(log_p, labels, class_weights=weights, gammas=0 * ONES)
    torch.testing.assert_close(found, entropies.cross_entropy(log_p, labels, class_weights=weights))


def test_focal_gives_each_class_its_gamma_and_its_weight():
    log_p = torch.tensor([[0.25, 0.75], [0.75, 0.25]]).log().view(1, 2, 1, 2)
    labels = torch.tensor([[[0, 1]]])
    found = entropies.focal(
        log_p, labels, class_weights=torch.tensor([1.0, 3.0]), gammas=torch.tensor([2.0, 0.5])
    )
    expected = [0.75**2 * -math.log(0.25), 3 * 0.75**0.5 * -math.log(0.25)]
    assert found.flatten().tolist() == pytest.approx(expected)


def test_focal_agrees_with_smp_on_one_gamma(batch):
    log_p, labels = batch
    found = entropies.focal(log_p, labels, class_weights=ONES, gammas=2 * ONES).mean()
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
    found = entropies.focal(two, labels, class_weights=ONES[:2], gammas=2 * ONES[:2]).mean()
    assert found.item() == pytest.approx(FocalLoss("binary", alpha=None, gamma=2.0)(x, labels).item())


def test_focal_is_finite_at_saturation_below_gamma_one():
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    loss = entropies.focal(
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
        return 1e3 * entropies.focal(x, labels, class_weights=3 * ONES[:2], gammas=0.5 * ONES[:2])

    log_p.requires_grad_()
    assert gradcheck(focal, (log_p,), eps=1e-8, atol=1e-6)
    focal(log_p).sum().backward()
    assert log_p.grad is not None
    assert log_p.grad.flatten().tolist() == pytest.approx([-1e3 * 3 * 1e-6**0.5, 0.0])


def test_focal_bce_agrees_with_torchvision(pictures):
    logits, target = pictures[0] * 8 - 4, pictures[1]
    found = entropies.focal_bce(logits, target, alpha=0.25, gamma=2.0)
    torch.testing.assert_close(found, sigmoid_focal_loss(logits, target, alpha=0.25, gamma=2.0))


def test_focal_bce_is_finite_at_saturation():
    logits = torch.tensor([-200.0, 200.0]).view(1, 1, 1, 2).requires_grad_()
    loss = entropies.focal_bce(logits, torch.tensor([1.0, 1.0]).view(1, 1, 1, 2), alpha=0.25, gamma=0.5)
    loss.sum().backward()
    assert loss[0, 0, 0].tolist() == pytest.approx([50.0, 0.0], abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_bce_weighs_positive_pixels():
    logits, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
    found = entropies.bce(logits, target, pos_weight=3.0)
    assert found.flatten().tolist() == pytest.approx([3 * math.log(2), math.log(2)])


def test_gradients_of_class_entropies_are_those_of_the_value():
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(2, 3, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 3, (2, 3, 3), generator=generator)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    gammas = torch.tensor([2.0, 0.5, 1.2], dtype=torch.float64)

    def focal(x):
        return entropies.focal(x.log_softmax(1), labels, class_weights=weights, gammas=gammas).sum()

    def cross_entropy(x):
        return entropies.cross_entropy(x.log_softmax(1), labels, class_weights=weights).sum()

    assert gradcheck(cross_entropy, (logits,))
    assert gradcheck(focal, (logits,))


@pytest.mark.parametrize(
    "errors",
    [
        lambda x: entropies.bce(x, TARGET, pos_weight=2.0),
        lambda x: entropies.focal_bce(8 * x - 4, TARGET, alpha=0.25, gamma=0.5),
    ],
    ids=["bce", "focal_bce"],
)
def test_gradients_of_binary_entropies_are_those_of_the_value(errors):
    assert gradcheck(lambda x: mean_of(errors(x), MASK), (leaf(),), atol=1e-6)

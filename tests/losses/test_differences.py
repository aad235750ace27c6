"""Tests of pixel differences against explicit formulas in numpy."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from pbrlib.losses import differences
from tests.losses.conftest import MASK, TARGET, leaf, mean_of, value


def test_l1_is_the_mean_absolute_error(pictures, everything):
    prediction, target = pictures
    expected = np.abs(prediction.numpy() - target.numpy()).mean()
    assert value(differences.l1(prediction, target), everything) == pytest.approx(expected)


def test_focal_relative_l1_equals_its_definition(pictures, everything):
    prediction, target = (x.numpy() for x in pictures)
    error = np.abs(prediction - target)
    relative = error / (target + 0.1)
    focus = np.clip(error / (error.mean(axis=(1, 2, 3), keepdims=True) + 1e-6), 0.25, 4.0)
    expected = (focus * (0.5 * error + 0.05 * relative)).mean()
    assert value(
        differences.focal_relative_l1(*pictures, everything, gamma=1.0), everything
    ) == pytest.approx(expected)


def test_focal_relative_l1_has_no_gradient_through_its_weights(pictures, everything):
    prediction, target = pictures
    prediction.requires_grad_()
    differences.focal_relative_l1(prediction, target, everything, gamma=1.0).sum().backward()
    error = (prediction - target).abs().detach()
    focus = (error / (error.mean(dim=(1, 2, 3), keepdim=True) + 1e-6)).clamp(0.25, 4.0)
    expected = focus * (0.5 + 0.05 / (target + 0.1)) * (prediction - target).sign()
    torch.testing.assert_close(prediction.grad, expected.detach())


@pytest.mark.parametrize(
    "errors",
    [
        lambda x: differences.l1(x, TARGET),
        lambda x: differences.focal_relative_l1(x, TARGET, MASK, gamma=0.0),
    ],
    ids=["l1", "focal_relative_l1"],
)
def test_gradients_are_those_of_the_value(errors):
    assert gradcheck(lambda x: mean_of(errors(x), MASK), (leaf(),), atol=1e-6)

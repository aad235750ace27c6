"""Tests of gradient and pyramid losses against explicit formulas in numpy."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from pbrlib.losses import gradients
from pbrlib.losses.masks import pairs, windows
from tests.losses.conftest import MASK, TARGET, leaf, mean_of, value


def correlate(x, taps, *, axis, border):
    """Correlation along one axis by shifted sums; ``border`` as in numpy.pad."""
    radius = len(taps) // 2
    margins = [(radius, radius) if a == axis % x.ndim else (0, 0) for a in range(x.ndim)]
    padded = np.pad(x, margins, mode=border)
    parts = (np.take(padded, range(i, i + x.shape[axis]), axis=axis) for i in range(len(taps)))
    return sum(tap * part for tap, part in zip(taps, parts, strict=True))


def test_grad_diff_is_the_mean_error_of_signed_differences(pictures, everything):
    prediction, target = (x.numpy() for x in pictures)
    expected = sum(np.abs(np.diff(prediction, axis=a) - np.diff(target, axis=a)).mean() for a in (2, 3))
    assert value(gradients.grad_diff(*pictures), pairs(everything)) == pytest.approx(expected)


def test_tv_of_a_ramp_is_its_slope(everything):
    ramp = (torch.arange(18) * 0.05).expand(2, 1, 14, 18)
    assert value(gradients.tv(ramp), pairs(everything)) == pytest.approx(0.05)


def test_sobel_compares_magnitudes_with_replicate_border(pictures, everything):
    def magnitude(x):
        slope, smooth = (-0.5, 0.0, 0.5), (0.25, 0.5, 0.25)
        gx, gy = (
            correlate(correlate(x, slope, axis=a, border="edge"), smooth, axis=b, border="edge")
            for a, b in ((-1, -2), (-2, -1))
        )
        return np.sqrt(gx**2 + gy**2 + 1e-6)

    prediction, target = (magnitude(x.numpy()) for x in pictures)
    expected = np.abs(prediction - target).mean()
    assert value(gradients.sobel(*pictures), windows(everything)) == pytest.approx(expected)


def test_sobel_of_a_ramp_against_a_flat_picture():
    everything = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    ramp = (torch.arange(8.0) * 0.1).expand(1, 1, 8, 8)
    error = gradients.sobel(ramp, torch.zeros_like(ramp))
    assert error[0, 0, 4, 4].item() == pytest.approx(math.sqrt(0.01 + 1e-6) - 1e-3, rel=1e-4)
    assert error.shape == everything.shape


def test_laplacian_pyramid_equals_filter_subtract_decimate(pictures):
    prediction, target = (x.numpy() for x in pictures)
    taps = np.array([1, 4, 6, 4, 1]) / 16.0

    def blur(x):
        rows = correlate(x, taps, axis=-1, border="constant")
        return correlate(rows, taps, axis=-2, border="constant")

    level, expected = prediction - target, 0.0
    for octave in range(4):
        low = blur(level) / blur(np.ones(level.shape[-2:]))
        expected += 0.5**octave * np.abs(level - low).mean()
        level = low[..., ::2, ::2]
    everything = torch.ones(2, 1, 14, 18, dtype=torch.bool)
    found = value(
        gradients.laplacian_pyramid(*pictures, everything),
        gradients.pyramid_weights(everything, dtype=torch.float64),
    )
    assert found == pytest.approx(expected)


def test_laplacian_pyramid_ignores_constants(pictures, everything):
    prediction, _ = pictures
    bands = gradients.laplacian_pyramid(prediction, prediction + 0.3, everything)
    assert max(band.abs().max().item() for band in bands) < 1e-12


def test_laplacian_pyramid_ignores_constants_beside_masked_pixels(pictures, everything):
    prediction, _ = pictures
    everything[:, :, 5:8, :] = False
    target = torch.where(everything, prediction + 0.3, 0.0)
    bands = gradients.laplacian_pyramid(prediction, target, everything)
    weights = gradients.pyramid_weights(everything, dtype=torch.float64)
    assert value(bands, weights) < 1e-12


def test_finest_band_weighs_most():
    everything = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    weights = gradients.pyramid_weights(everything)
    checker = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(1, 1, 64, 64)
    bands = gradients.laplacian_pyramid(checker, torch.zeros_like(checker), everything)
    fine, *coarse = [float((b * w).sum() / w.sum()) for b, w in zip(bands, weights, strict=True)]
    assert fine == pytest.approx(0.5, abs=0.02)
    assert max(coarse) < 0.02


@pytest.mark.parametrize(
    ("errors", "weights"),
    [
        (lambda x: gradients.grad_diff(x, TARGET), pairs(MASK)),
        (gradients.tv, pairs(MASK)),
        (lambda x: gradients.sobel(x, TARGET), windows(MASK)),
        (
            lambda x: gradients.laplacian_pyramid(x, TARGET, MASK),
            gradients.pyramid_weights(MASK, dtype=torch.float64),
        ),
    ],
    ids=["grad_diff", "tv", "sobel", "laplacian_pyramid"],
)
def test_gradients_are_those_of_the_value(errors, weights):
    assert gradcheck(lambda x: mean_of(errors(x), weights), (leaf(),), atol=1e-6)

"""Terms over maps against formulas written out in numpy, or against other libraries."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torchvision.ops import sigmoid_focal_loss

from pbrlib.geometry.normals import normal_from_height
from pbrlib.losses import terms


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, 2, 3, 14, 18, generator=generator, dtype=torch.float64).unbind()


@pytest.fixture
def everything(pictures):
    return torch.ones(2, 1, 14, 18, dtype=torch.bool)


def correlate(x, taps, *, axis, border):
    """Correlation along one axis by shifted sums; ``border`` as in numpy.pad."""
    radius = len(taps) // 2
    margins = [(radius, radius) if a == axis % x.ndim else (0, 0) for a in range(x.ndim)]
    padded = np.pad(x, margins, mode=border)
    parts = (np.take(padded, range(i, i + x.shape[axis]), axis=axis) for i in range(len(taps)))
    return sum(tap * part for tap, part in zip(taps, parts, strict=True))


def value(errors, weights):
    errors = errors if isinstance(errors, tuple | list) else (errors,)
    weights = weights if isinstance(weights, tuple | list) else (weights,)
    return terms.mean(errors, weights).item()


def test_l1_is_the_mean_absolute_error(pictures, everything):
    prediction, target = pictures
    expected = np.abs(prediction.numpy() - target.numpy()).mean()
    assert value(terms.l1(prediction, target), everything) == pytest.approx(expected)


def test_grad_diff_is_the_mean_error_of_signed_differences(pictures, everything):
    prediction, target = (x.numpy() for x in pictures)
    expected = sum(np.abs(np.diff(prediction, axis=a) - np.diff(target, axis=a)).mean() for a in (2, 3))
    assert value(terms.grad_diff(*pictures), terms.pairs(everything)) == pytest.approx(expected)


def test_tv_of_a_ramp_is_its_slope(everything):
    ramp = (torch.arange(18) * 0.05).expand(2, 1, 14, 18)
    assert value(terms.tv(ramp), terms.pairs(everything)) == pytest.approx(0.05)


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
    assert value(terms.sobel(*pictures), terms.windows(everything)) == pytest.approx(expected)


def test_sobel_of_a_ramp_against_a_flat_picture():
    everything = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    ramp = (torch.arange(8.0) * 0.1).expand(1, 1, 8, 8)
    error = terms.sobel(ramp, torch.zeros_like(ramp))
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
        terms.laplacian_pyramid(*pictures, everything),
        terms.pyramid_weights(everything, dtype=torch.float64),
    )
    assert found == pytest.approx(expected)


def test_laplacian_pyramid_does_not_see_constants(pictures, everything):
    prediction, _ = pictures
    bands = terms.laplacian_pyramid(prediction, prediction + 0.3, everything)
    assert max(band.abs().max().item() for band in bands) < 1e-12


def test_laplacian_pyramid_does_not_see_constants_beside_masked_pixels(pictures, everything):
    prediction, _ = pictures
    everything[:, :, 5:8, :] = False
    target = torch.where(everything, prediction + 0.3, 0.0)
    bands = terms.laplacian_pyramid(prediction, target, everything)
    weights = terms.pyramid_weights(everything, dtype=torch.float64)
    assert value(bands, weights) < 1e-12


def test_finest_band_weighs_most():
    everything = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    weights = terms.pyramid_weights(everything)
    checker = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(1, 1, 64, 64)
    bands = terms.laplacian_pyramid(checker, torch.zeros_like(checker), everything)
    fine, *coarse = [float((b * w).sum() / w.sum()) for b, w in zip(bands, weights, strict=True)]
    assert fine == pytest.approx(0.5, abs=0.02)
    assert max(coarse) < 0.02


def test_focal_relative_l1_equals_its_definition(pictures, everything):
    prediction, target = (x.numpy() for x in pictures)
    error = np.abs(prediction - target)
    relative = error / (target + 0.1)
    focus = np.clip(error / (error.mean(axis=(1, 2, 3), keepdims=True) + 1e-6), 0.25, 4.0)
    expected = (focus * (0.5 * error + 0.05 * relative)).mean()
    assert value(terms.focal_relative_l1(*pictures, everything, gamma=1.0), everything) == pytest.approx(
        expected
    )


def test_focal_relative_l1_has_no_gradient_through_its_weights(pictures, everything):
    prediction, target = pictures
    prediction.requires_grad_()
    terms.focal_relative_l1(prediction, target, everything, gamma=1.0).sum().backward()
    error = (prediction - target).abs().detach()
    focus = (error / (error.mean(dim=(1, 2, 3), keepdim=True) + 1e-6)).clamp(0.25, 4.0)
    expected = focus * (0.5 + 0.05 / (target + 0.1)) * (prediction - target).sign()
    torch.testing.assert_close(prediction.grad, expected.detach())


def test_focal_bce_agrees_with_torchvision(pictures):
    logits, target = pictures[0] * 8 - 4, pictures[1]
    found = terms.focal_bce(logits, target, alpha=0.25, gamma=2.0)
    torch.testing.assert_close(found, sigmoid_focal_loss(logits, target, alpha=0.25, gamma=2.0))


def test_focal_bce_is_finite_at_saturation():
    logits = torch.tensor([-200.0, 200.0]).view(1, 1, 1, 2).requires_grad_()
    loss = terms.focal_bce(logits, torch.tensor([1.0, 1.0]).view(1, 1, 1, 2), alpha=0.25, gamma=0.5)
    loss.sum().backward()
    assert loss[0, 0, 0].tolist() == pytest.approx([50.0, 0.0], abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_bce_weighs_positive_pixels():
    logits, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
    found = terms.bce(logits, target, pos_weight=3.0)
    assert found.flatten().tolist() == pytest.approx([3 * math.log(2), math.log(2)])


@pytest.fixture
def hills():
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return (0.5 + 0.2 * torch.sin(columns / 5) * torch.cos(rows / 7)).double().expand(1, 1, 32, 32)


@pytest.mark.parametrize("relief_px", [5.0, 20.0, 60.0])
def test_normal_reproj_finds_the_relief_that_made_the_normals(hills, relief_px):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills, scale_px=relief_px, tileable=False)
    assert terms.fitted_relief(hills, normal, everything).item() == pytest.approx(relief_px, rel=0.02)
    assert terms.normal_reproj(hills, normal, everything).mean() < 1e-4


def test_normal_reproj_does_not_see_scale_and_offset_of_the_height(hills):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills + 0.05 * torch.rand_like(hills), scale_px=20.0, tileable=False)
    errors = [
        terms.normal_reproj(scale * hills + offset, normal, everything).mean().item()
        for scale, offset in ((1.0, 0.0), (0.5, 0.3), (2.0, -0.1))
    ]
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-9)
    assert errors[0] > 1e-3


def test_normal_reproj_notices_a_flipped_green_channel(hills):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills, scale_px=30.0, tileable=False)
    flipped = normal * torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    right = terms.normal_reproj(hills, normal, everything).mean()
    assert terms.normal_reproj(hills, flipped, everything).mean() > 100 * right


def test_flat_height_takes_the_least_relief(hills):
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    normal = normal_from_height(hills, scale_px=30.0, tileable=False)
    assert terms.fitted_relief(torch.full_like(hills, 0.5), normal, everything).item() == 2.5
    assert terms.fitted_relief(1.0 - hills, normal, everything).item() == 2.5
    assert terms.fitted_relief(hills * 1e-3, normal, everything).item() == 115.0


def tiny(*shape):
    generator = torch.Generator().manual_seed(11)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


MASK = torch.ones(1, 1, 5, 6, dtype=torch.bool)
MASK[..., 2, 3] = False
TARGET = tiny(1, 1, 5, 6)
NORMAL = torch.nn.functional.normalize(
    tiny(1, 3, 5, 6) + torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1), dim=1
)


@pytest.mark.parametrize(
    "term",
    [
        lambda x: terms.mean((terms.l1(x, TARGET),), (MASK,)),
        lambda x: terms.mean(terms.grad_diff(x, TARGET), terms.pairs(MASK)),
        lambda x: terms.mean(terms.tv(x), terms.pairs(MASK)),
        lambda x: terms.mean((terms.sobel(x, TARGET),), (terms.windows(MASK),)),
        lambda x: terms.mean(
            terms.laplacian_pyramid(x, TARGET, MASK), terms.pyramid_weights(MASK, dtype=torch.float64)
        ),
        lambda x: terms.mean((terms.focal_relative_l1(x, TARGET, MASK, gamma=0.0),), (MASK,)),
        lambda x: terms.mean((terms.normal_reproj(1e-3 * x, NORMAL, MASK),), (terms.windows(MASK),)),
        lambda x: terms.mean((terms.bce(x, TARGET, pos_weight=2.0),), (MASK,)),
        lambda x: terms.mean((terms.focal_bce(8 * x - 4, TARGET, alpha=0.25, gamma=0.5),), (MASK,)),
    ],
    ids=["l1", "grad_diff", "tv", "sobel", "laplacian", "focal_rel_l1", "normal_reproj", "bce", "focal_bce"],
)
def test_gradients_are_those_of_the_value(term):
    x = (tiny(1, 1, 5, 6).flip(-1) * 0.9 + 0.05).requires_grad_()
    assert gradcheck(term, (x,), atol=1e-6)

"""Tests of orientation, slopes, Poisson height, curvature and occlusion of normal maps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pbrlib.geometry import (
    Orientation,
    ao_from_height,
    flip_green,
    flip_horizontal,
    flip_vertical,
    green_channel_verdict,
    mean_curvature,
    normal_from_height,
    poisson_height,
    relief,
    rotate90,
    slopes,
)
from pbrlib.geometry.fields import gaussian_blur, percentile
from pbrlib.geometry.poisson import integrated_height
from pbrlib.maps import NORMAL

quick = settings(max_examples=25)
seeds = st.integers(0, 2**31)


def smooth_height(seed: int, *, size: int = 32, num_waves: int = 5) -> Tensor:
    """Return a periodic height of a few low-frequency waves, in pixels."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(size, dtype=torch.float32).view(-1, 1) * (2.0 * math.pi / size)
    x = y.view(1, -1)
    height = torch.zeros(size, size)
    for _ in range(num_waves):
        u, v = (int(f) for f in torch.randint(-3, 4, (2,), generator=generator))
        phase = 2.0 * math.pi * float(torch.rand((), generator=generator))
        height += torch.cos(u * x + v * y + phase)
    return height.view(1, 1, size, size)


def bump(size: int = 64, *, height: float = 6.0) -> Tensor:
    axis = torch.linspace(-3.0, 3.0, size)
    return height * torch.exp(-(axis.view(-1, 1).square() + axis.square())).view(1, 1, size, size)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])


TURNS = {
    "flip_horizontal": flip_horizontal,
    "flip_vertical": flip_vertical,
    "rotate90": lambda x, normal: rotate90(x, turns=1, normal=normal),
    "rotate180": lambda x, normal: rotate90(x, turns=2, normal=normal),
    "rotate270": lambda x, normal: rotate90(x, turns=3, normal=normal),
}


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("tileable", [True, False])
@given(seed=seeds)
@quick
def test_the_normal_of_a_rotated_height_equals_the_rotated_normal(name, tileable, seed):
    height, turn = smooth_height(seed), TURNS[name]
    derived_last = normal_from_height(turn(height, normal=False), scale_px=1.5, tileable=tileable)
    derived_first = turn(normal_from_height(height, scale_px=1.5, tileable=tileable), normal=True)
    torch.testing.assert_close(derived_last, derived_first)


@pytest.mark.parametrize("name", TURNS)
@given(seed=seeds)
@quick
def test_relief_of_a_rotated_normal_equals_the_rotated_relief(name, seed):
    normal = normal_from_height(smooth_height(seed, size=64), scale_px=1.0, tileable=True)
    turn = TURNS[name]
    turned_last = turn(relief(normal, tileable=True), normal=False)
    torch.testing.assert_close(
        relief(turn(normal, normal=True), tileable=True), turned_last, atol=1e-3, rtol=0
    )


@given(seed=seeds, normal=st.booleans())
@quick
def test_four_quarter_turns_and_double_flips_are_the_identity(seed, normal):
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    turned = x
    for _ in range(4):
        turned = rotate90(turned, turns=1, normal=normal)
    assert torch.equal(turned, x)
    assert torch.equal(flip_horizontal(flip_horizontal(x, normal=normal), normal=normal), x)
    assert torch.equal(flip_vertical(flip_vertical(x, normal=normal), normal=normal), x)
    assert torch.equal(flip_green(flip_green(x)), x)
    for turns in range(-4, 8):
        expected = x
        for _ in range(turns % 4):
            expected = rotate90(expected, turns=1, normal=normal)
        assert torch.equal(rotate90(x, turns=turns, normal=normal), expected)


def test_normal_vectors_are_rotated_and_mirrored():
    right = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    up, left = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([-1.0, 0.0, 0.0])
    assert torch.equal(rotate90(right, turns=1, normal=True).flatten(), up)
    assert torch.equal(flip_horizontal(right, normal=True).flatten(), left)
    assert torch.equal(flip_vertical(up.view(1, 3, 1, 1), normal=True).flatten(), -up)


@given(
    seed=seeds,
    turns=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    normal=st.booleans(),
    flips=st.integers(0, 3),
)
@quick
def test_an_orientation_equals_its_turns_and_flips_in_sequence(seed, turns, normal, flips):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (len(turns), 3, 6, 6), generator=generator, dtype=torch.uint8)
    horizontal = torch.tensor([bool((flips + i) & 1) for i in range(len(turns))])
    vertical = torch.tensor([bool((flips + i) & 2) for i in range(len(turns))])
    orientation = Orientation.of(torch.tensor(turns), horizontal=horizontal, vertical=vertical)
    result = orientation.apply(x, normal=normal)
    for i, quarter in enumerate(turns):
        expected = rotate90(x[i : i + 1], turns=quarter, normal=normal)
        expected = flip_horizontal(expected, normal=normal) if horizontal[i] else expected
        expected = flip_vertical(expected, normal=normal) if vertical[i] else expected
        assert torch.equal(result[i : i + 1], expected)


def every_orientation() -> Orientation:
    numbers = torch.arange(8)
    flipped = numbers >= 4
    return Orientation.of(numbers % 4, horizontal=flipped, vertical=torch.zeros(8, dtype=torch.bool))


def sixteen_bits(channels: int) -> Tensor:
    drawn = torch.randint(0, 1 << 16, (8, channels, 6, 6), generator=torch.Generator().manual_seed(5))
    return drawn.to(torch.uint16)


@pytest.mark.parametrize("normal", [True, False])
def test_orienting_uint16_equals_orienting_larger_integers(normal):
    x = sixteen_bits(3)
    turned = every_orientation().apply(x, normal=normal)
    wide = x.double() * 2.0 - 65535.0
    assert turned.dtype == torch.uint16
    assert torch.equal(turned.double() * 2.0 - 65535.0, every_orientation().apply(wide, normal=normal))


@pytest.mark.gpu
@pytest.mark.parametrize(("channels", "normal"), [(1, False), (2, False), (3, True)])
def test_orienting_uint16_is_equal_on_gpu_and_cpu(channels, normal):
    x, orientation = sixteen_bits(channels), every_orientation()
    for some in (slice(None), slice(0, 1), slice(3, 4), slice(4, 6)):  # all, none, one, or some samples turn
        part = Orientation(
            orientation.transposed[some], orientation.mirrored_x[some], orientation.mirrored_y[some]
        )
        on_gpu = part.apply(x[some].cuda(), normal=normal).cpu()
        assert torch.equal(on_gpu, part.apply(x[some], normal=normal))


@pytest.mark.parametrize("name", TURNS)
def test_oriented_integers_decode_to_oriented_vectors(name):
    raw = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    decoded_last = NORMAL.decode(TURNS[name](raw, normal=True))
    torch.testing.assert_close(decoded_last, TURNS[name](NORMAL.decode(raw), normal=True))


def test_slopes_are_the_gradient_of_the_height_clipped_at_ten():
    columns, rows = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="xy")
    plane = (0.5 * columns - 2.0 * rows).view(1, 1, 8, 8)
    p, q = slopes(normal_from_height(plane, scale_px=1.0, tileable=False))
    torch.testing.assert_close(p, torch.full_like(p, 0.5))
    torch.testing.assert_close(q, torch.full_like(q, -2.0))
    steep, _ = slopes(normal_from_height(plane, scale_px=100.0, tileable=False))
    assert steep.unique().tolist() == [10.0]


@given(seed=seeds)
@quick
def test_the_poisson_solver_recovers_a_periodic_height(seed):
    height = smooth_height(seed, size=64) - smooth_height(seed, size=64).mean()
    solved = integrated_height(normal_from_height(height, scale_px=1.0, tileable=True), tileable=True)
    assert float((solved - height).abs().max()) < 0.03 * float(height.abs().max()) + 1e-3


@given(seed=seeds)
@quick
def test_the_mirrored_solver_recovers_a_height_that_is_not_tileable(seed):
    height = smooth_height(seed, size=96)[..., 10:58, 5:77]
    solved = integrated_height(normal_from_height(height, scale_px=1.0, tileable=False), tileable=False)
    columns = torch.arange(72.0).expand(48, 72).flatten()
    rows = torch.arange(48.0).view(-1, 1).expand(48, 72).flatten()
    basis = torch.stack((torch.ones_like(rows), columns, rows), dim=1)
    rest = (solved - height).flatten().unsqueeze(1)
    rest = rest - basis @ torch.linalg.lstsq(basis, rest).solution
    assert float(rest.std()) < 0.1 * float(height.std()) + 1e-3


def test_a_constant_offset_of_normals_does_not_change_a_mirrored_height():
    normal = normal_from_height(bump(), scale_px=1.0, tileable=False)
    biased = torch.nn.functional.normalize(normal + torch.tensor([0.05, 0.05, 0.0]).view(1, 3, 1, 1), dim=1)
    assert correlation(poisson_height(biased, tileable=False), bump()) > 0.95


@pytest.mark.parametrize("tileable", [True, False])
def test_poisson_height_of_a_bump_is_highest_in_the_middle(tileable):
    result = poisson_height(normal_from_height(bump(), scale_px=1.0, tileable=tileable), tileable=tileable)
    assert correlation(result, bump()) > 0.97
    assert float(result.max()) == pytest.approx(1.0, abs=0.1)
    assert float(result[..., 32, 32]) > 0.8 > -0.5 > float(result[..., 0, 0])


def test_an_inverted_green_channel_gives_a_wrong_poisson_height():
    normal = normal_from_height(smooth_height(1, size=64), scale_px=1.0, tileable=True)
    assert correlation(poisson_height(flip_green(normal), tileable=True), smooth_height(1, size=64)) < 0.6


def test_the_relief_of_a_flat_texture_is_zero_everywhere():
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 48)
    assert float(relief(flat, tileable=False).abs().max()) == 0.0
    assert relief(flat, tileable=True).shape == (1, 2, 32, 48)


def test_curvature_is_positive_on_bumps_negative_in_dents_and_bounded():
    on_bump = mean_curvature(normal_from_height(bump(), scale_px=1.0, tileable=False), tileable=False)
    in_dent = mean_curvature(normal_from_height(-bump(), scale_px=1.0, tileable=False), tileable=False)
    assert float(on_bump[..., 32, 32]) > 0.5
    torch.testing.assert_close(in_dent, -on_bump)
    assert float(on_bump.abs().max()) == 1.0


@given(seed=seeds)
@quick
def test_the_verdict_gives_the_convention_of_a_surface(seed):
    normal = normal_from_height(smooth_height(seed, num_waves=12), scale_px=1.0, tileable=True)
    assert green_channel_verdict(normal, tileable=True) != "directx"
    assert green_channel_verdict(flip_green(normal), tileable=True) != "opengl"


def test_the_verdict_is_undecided_for_flat_noisy_and_grooved_surfaces():
    normal = normal_from_height(bump(), scale_px=1.0, tileable=False)
    assert green_channel_verdict(normal, tileable=False) == "opengl"
    assert green_channel_verdict(flip_green(normal), tileable=False) == "directx"
    flat = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert green_channel_verdict(flat, tileable=True) == "undecided"
    noise = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.1 + flat[..., :1, :1]
    assert green_channel_verdict(noise, tileable=True) == "undecided"
    grooves = torch.cos(torch.arange(64.0) * 0.2).expand(1, 1, 64, 64)
    grooved = normal_from_height(grooves, scale_px=1.0, tileable=False)
    assert green_channel_verdict(grooved, tileable=False) == "undecided"


def test_occlusion_is_one_on_a_flat_surface_and_low_in_a_pit():
    assert ao_from_height(torch.zeros(1, 1, 16, 16), scale_px=5.0, tileable=True).unique().tolist() == [1.0]
    pit = ao_from_height(-bump(), scale_px=4.0, tileable=False, radius_px=32)
    assert float(pit[..., 32, 32]) < 0.4 < 0.9 < float(pit[..., 0, 0])
    assert float(pit.min()) >= 0.0 and float(pit.max()) <= 1.0


def test_occlusion_of_a_trench_has_its_known_value():
    trench = torch.full((1, 1, 9, 9), 2.0)
    trench[..., 4] = 0.0
    result = ao_from_height(trench, scale_px=1.0, tileable=False, directions=4, radius_px=1)
    assert float(result[0, 0, 4, 4]) == pytest.approx((1.0 + 1.0 + 0.2 + 0.2) / 4.0)


def test_occlusion_wraps_in_a_tileable_texture():
    height = smooth_height(5)
    moved = ao_from_height(height.roll(7, -1), scale_px=2.0, tileable=True, radius_px=50)
    torch.testing.assert_close(
        moved, ao_from_height(height, scale_px=2.0, tileable=True, radius_px=50).roll(7, -1)
    )


def test_percentile_is_an_order_statistic_of_each_sample():
    x = torch.stack((torch.arange(101.0), torch.arange(101.0) * 2.0)).view(2, 1, 101, 1)
    assert percentile(x, share=0.99).flatten().tolist() == [99.0, 198.0]
    assert percentile(x, share=0.0).flatten().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("tileable", [True, False])
def test_a_blur_keeps_the_mean_and_wraps_in_a_tileable_texture(tileable):
    point = torch.zeros(1, 1, 16, 16)
    point[..., 8, 0] = 1.0
    blurred = gaussian_blur(point, sigma_px=1.5, tileable=tileable)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-5)
    assert (float(blurred[..., 8, 15]) > 0.01) is tileable


def dithered(*, bits: int, side: int = 128) -> torch.Tensor:
    """Return a flat 8-bit normal map whose x and y have two neighbouring values equally often."""
    generator = torch.Generator().manual_seed(bits)
    flat = torch.full((1, 3, side, side), 128)
    flat[:, :2] -= torch.randint(0, bits + 1, (1, 2, side, side), generator=generator)
    flat[:, 2] = 255
    return NORMAL.decode(flat.to(torch.uint8))


@pytest.mark.parametrize("tileable", [True, False])
def test_one_bit_of_dither_gives_almost_no_relief(tileable):
    for bits, most in ((0, 0.0), (1, 0.2)):
        found = relief(dithered(bits=bits), tileable=tileable)
        assert found.abs().max() <= most
    assert found.std(dim=(2, 3)).max() < 0.06


@pytest.mark.parametrize("tileable", [True, False])
def test_relief_above_the_minimum_is_scaled_to_the_full_range(tileable):
    columns = torch.arange(128.0) * (2 * math.pi / 128)
    height = (columns.sin()[None, :] * columns.cos()[:, None])[None, None]
    found = poisson_height(normal_from_height(height, scale_px=1.0, tileable=True), tileable=tileable)
    assert found.max() > 0.9
    assert found.min() < -0.9

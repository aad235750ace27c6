import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib.convert.mips import (
    albedo_chain,
    halve,
    linear_to_srgb,
    mean_normals,
    mip_chain,
    normalise,
    roughness_chain,
    srgb_to_linear,
    toksvig,
)

sides = st.integers(1, 23)


@settings(max_examples=60)
@given(height=sides, width=sides, seed=st.integers(0, 99))
def test_halving_keeps_the_mean_of_any_size(height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).random((height, width, 2), dtype=np.float32)
    half = halve(picture)
    assert half.shape[:2] == (max(height // 2, 1), max(width // 2, 1))
    np.testing.assert_allclose(half.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=1e-5)


@settings(max_examples=30)
@given(height=sides, width=sides)
def test_a_mip_chain_ends_at_one_pixel(height: int, width: int) -> None:
    levels = mip_chain(np.zeros((height, width, 1), np.float32))
    assert levels[-1].shape == (1, 1, 1)
    assert len(levels) == max(height, width).bit_length()


def test_albedo_is_averaged_in_linear_light() -> None:
    board = np.zeros((2, 2, 4), np.uint8)
    board[0, 0, :3] = board[1, 1, :3] = 255
    board[..., 3] = [[0, 255], [255, 0]]
    assert albedo_chain(board)[1].tolist() == [[[188, 188, 188, 128]]]


def test_the_srgb_curve_is_undone_by_its_inverse() -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6)
    assert srgb_to_linear(np.float32(0.5)) == pytest.approx(0.2140, abs=1e-4)


def test_averages_of_equal_normals_keep_their_length_and_others_are_shorter() -> None:
    tilted = np.zeros((2, 2, 3), np.float32)
    tilted[:, 0], tilted[:, 1] = (0.6, 0, 0.8), (-0.6, 0, 0.8)
    mean = mean_normals(tilted)[1]
    np.testing.assert_allclose(mean, [[[0, 0, 0.8]]], atol=1e-6)
    np.testing.assert_allclose(normalise(mean), [[[0, 0, 1]]])


def test_normals_that_cancel_out_point_up() -> None:
    assert normalise(np.zeros((1, 1, 3), np.float32)).tolist() == [[[0, 0, 1]]]


def test_toksvig_gives_the_value_of_its_formula() -> None:
    # alpha = 1/4, s = 2 * 16 - 2 = 30, s' = 27 / 3.9 = 6.9231, r' = (2 / 8.9231)^(1/4)
    half, length = np.full((1, 1, 1), 0.5, np.float32), np.full((1, 1, 1), 0.9, np.float32)
    assert toksvig(half, length).item() == pytest.approx(0.68806, abs=1e-4)


@settings(max_examples=100)
@given(r=st.floats(0, 1), longer=st.floats(0, 1), shorter=st.floats(0, 1))
def test_toksvig_raises_and_raises_more_for_less_agreement(r: float, longer: float, shorter: float) -> None:
    longer, shorter = max(longer, shorter), min(longer, shorter)
    values = np.full((1, 1, 1), r, np.float32)
    less, more = (toksvig(values, np.full((1, 1, 1), n, np.float32)).item() for n in (longer, shorter))
    assert np.float32(r) - 1e-6 <= less <= more + 1e-6
    assert more <= 1.0 + 1e-6


def test_flat_normals_do_not_change_roughness() -> None:
    flat = np.zeros((8, 8, 3), np.float32)
    flat[..., 2] = 1
    roughness = np.random.default_rng(0).random((8, 8, 1), dtype=np.float32)
    levels = roughness_chain(roughness, mean_normals(flat))
    for raised, averaged in zip(levels, mip_chain(roughness), strict=True):
        np.testing.assert_allclose(raised, averaged, atol=2e-4)

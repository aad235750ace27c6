"""Tests of grain, dirt and highlights: known values, ranges and seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pbrlib.data.augment.overlays import (
    darken,
    dirt_cover,
    grain_cover,
    perlin,
    sprite_cover,
    whiten,
)

COVERS: dict[str, Callable[..., Tensor]] = {"dirt": dirt_cover, "grain": grain_cover, "sprite": sprite_cover}
SEEDS = st.integers(0, 2**62)
quick = settings(max_examples=25)


def strengths(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_darkening_takes_the_covered_share_and_whitening_blends_by_it() -> None:
    x = torch.tensor([0.8, 0.4, 0.2]).view(1, 3, 1, 1)
    cover = torch.full((1, 1, 1, 1), 0.25)
    torch.testing.assert_close(darken(x, cover=cover).flatten(), torch.tensor([0.6, 0.3, 0.15]))
    torch.testing.assert_close(whiten(x, cover=cover).flatten(), torch.tensor([0.85, 0.55, 0.4]))


def test_perlin_noise_equals_its_definition_at_a_point() -> None:
    """One cell, pixel (1, 2) of 4: the faded mean of the four gradients' ramps."""
    angles = torch.tensor([[[0.3, 1.2], [2.5, 4.0]]])
    y, x = 1.5 / 4, 2.5 / 4

    def ramp(row: int, column: int) -> float:
        angle = float(angles[0, row, column])
        return math.cos(angle) * (x - column) + math.sin(angle) * (y - row)

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    upper = ramp(0, 0) + fade(x) * (ramp(0, 1) - ramp(0, 0))
    lower = ramp(1, 0) + fade(x) * (ramp(1, 1) - ramp(1, 0))
    expected = (upper + fade(y) * (lower - upper)) * math.sqrt(2.0)
    assert float(perlin(angles, size=(4, 4))[0, 0, 1, 2]) == pytest.approx(expected, abs=1e-6)


@given(seed=SEEDS)
@quick
def test_perlin_noise_is_smooth_and_vanishes_at_its_nodes(seed: int) -> None:
    angles = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(seed)) * 2.0 * math.pi
    noise = perlin(angles, size=(256, 256))
    assert float(noise.abs().max()) <= 1.0
    # Nodes lie between pixels, half a pixel (1/128 of a cell) away, and gradients have length sqrt(2).
    assert float(noise[0, 0, 64::64, 64::64].abs().max()) < 2.0 * math.sqrt(2.0) / 128
    assert float(noise.diff(dim=-1).abs().max()) < 5.0 / 64
    assert float(noise.diff(dim=-2).abs().max()) < 5.0 / 64


@pytest.mark.parametrize("name", COVERS)
@given(seed=SEEDS, size=st.sampled_from([(16, 16), (33, 20)]))
@quick
def test_a_cover_is_between_zero_and_its_strength(name: str, seed: int, size: tuple[int, int]) -> None:
    cover = COVERS[name]([seed], strength=strengths(0.3), size=size)
    assert cover.shape == (1, 1, *size)
    assert float(cover.min()) >= 0.0 and float(cover.max()) <= 0.3 + 1e-6


@pytest.mark.parametrize("name", COVERS)
def test_a_cover_has_free_parts_and_depends_on_its_seed_only(name: str) -> None:
    together = COVERS[name]([1, 2, 1], strength=strengths(0.5, 0.5, 0.25), size=(64, 64))
    alone = COVERS[name]([2], strength=strengths(0.5), size=(64, 64))
    torch.testing.assert_close(together[1:2], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together[0], together[2] * 2.0)
    assert not torch.equal(together[0], together[1])
    shares = [
        float((COVERS[name]([s], strength=strengths(1.0), size=(64, 64)) > 0).float().mean())
        for s in range(30)
    ]
    assert 0.02 < sum(shares) / 30 < 0.8


def on_border(cover: Tensor) -> bool:
    rim = cover.clone()
    rim[1:-1, 1:-1] = 0.0
    return bool(rim.any())


def test_a_highlight_is_round_and_has_its_alpha_in_the_centre() -> None:
    covers = [sprite_cover([s], strength=strengths(0.15), size=(101, 101))[0, 0] for s in range(60)]
    assert min(float(cover.max()) for cover in covers) > 0.14
    whole = [cover for cover in covers if not on_border(cover)]
    assert whole
    for cover in whole:
        rows, columns = cover.sum(dim=1), cover.sum(dim=0)
        spread = [int((profile > 0).sum()) for profile in (rows, columns)]
        assert abs(spread[0] - spread[1]) <= 1
        y, x = divmod(int(cover.argmax()), 101)
        assert (cover[y, x:].diff() <= 0).all() and (cover[y:, x].diff() <= 0).all()

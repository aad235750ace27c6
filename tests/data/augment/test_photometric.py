"""Tests of the photometric changes: known pixels, and the ranges of presets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pbrlib.data.augment.photometric import (
    cold_white_balance,
    gamma,
    grain,
    light_tint,
    occlusion_tint,
    photometric,
    vignette,
)

SEEDS = st.integers(0, 2**62)
quick = settings(max_examples=50)


def grey(size: int = 9, *, level: float = 0.5, num: int = 1) -> Tensor:
    return torch.full((num, 3, size, size), level)


def scalar(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


def test_the_occlusion_tint_darkens_occluded_pixels_by_its_strength() -> None:
    ao = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    tinted = occlusion_tint(torch.full((1, 3, 1, 3), 0.5), ao=ao, strength=scalar(0.2))
    torch.testing.assert_close(tinted[0, 0, 0], torch.tensor([0.4, 0.45, 0.5]))


def test_the_cold_white_balance_multiplies_only_red_and_blue() -> None:
    cold = cold_white_balance(grey(), red=scalar(0.9), blue=scalar(1.1))
    torch.testing.assert_close(cold[0, :, 3, 3], torch.tensor([0.45, 0.5, 0.55]))


def test_the_vignette_leaves_the_centre_and_darkens_the_corner_to_its_edge_gain() -> None:
    result = vignette(torch.ones(1, 3, 9, 9), edge=scalar(0.85))
    assert float(result[0, 0, 4, 4]) == 1.0
    for corner in (result[0, :, y, x] for y in (0, -1) for x in (0, -1)):
        torch.testing.assert_close(corner, torch.full((3,), 0.85))
    assert float(result[0, 0, 0, 4]) == pytest.approx(0.925)


def test_the_light_tint_has_a_gain_per_channel() -> None:
    tinted = light_tint(grey(), gain=torch.tensor([1.1, 1.0, 0.8]).view(1, 3, 1, 1))
    torch.testing.assert_close(tinted[0, :, 0, 0], torch.tensor([0.55, 0.5, 0.4]))


def test_gamma_changes_middle_tones_and_clips_its_input() -> None:
    x = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5]).view(1, 1, 1, 5)
    bent = gamma(x, exponent=scalar(0.5))
    torch.testing.assert_close(bent.flatten(), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_grain_is_grey_and_has_the_given_sigma() -> None:
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    added = grain(grey(64), noise=noise, sigma=scalar(0.02)) - 0.5
    assert torch.equal(added[:, 0], added[:, 1]) and torch.equal(added[:, 0], added[:, 2])
    assert float(added.std()) == pytest.approx(0.02, rel=0.05)


@given(seed=SEEDS)
@quick
def test_v4_draws_within_the_ranges_of_the_recipe(seed: int) -> None:
    """A corner shows the vignette, the centre the occlusion, colours the balance."""
    ao = torch.ones(1, 1, 3, 9)
    ao[..., 1, 4] = 0.0
    x = photometric(torch.full((1, 3, 3, 9), 0.5), ao=ao, seeds=[seed], preset="v4")[0].double()
    red, green, blue = x[:, 1, 3]
    assert 0.90 <= red / green <= 0.98
    assert 1.02 <= blue / green <= 1.10
    assert 0.85 - 1e-6 <= x[1, 0, 0] / 0.5 <= 0.95 + 1e-6
    assert 0.10 - 1e-6 <= 1.0 - x[1, 1, 4] / 0.5 <= 0.25 + 1e-6


@given(seed=SEEDS)
@quick
def test_rev7_draws_within_its_ranges(seed: int) -> None:
    """Two greys give gain and gamma; their noise has the strength of the grain."""
    low, high = (
        photometric(grey(96, level=level), ao=None, seeds=[seed], preset="rev7")[0].double()
        for level in (0.35, 0.7)
    )
    first, second = low.mean(dim=(1, 2)).log(), high.mean(dim=(1, 2)).log()
    exponent = (second - first) / torch.log(torch.tensor(2.0))
    gain = (first / exponent).exp() / 0.35
    assert ((exponent > 0.85 - 0.01) & (exponent < 1.18 + 0.01)).all()
    assert ((gain > 0.94 - 0.01) & (gain < 1.06 + 0.01)).all()
    assert 0.005 * 0.95 <= float(low.std(dim=(1, 2)).mean()) <= 0.025 * 1.05


def test_a_preset_covers_its_ranges() -> None:
    seeds = list(range(400))
    x = photometric(grey(3, num=400), ao=torch.zeros(400, 1, 3, 3), seeds=seeds, preset="v4")
    cold = x[:, 0, 1, 1] / x[:, 1, 1, 1]
    assert float(cold.min()) < 0.905 and float(cold.max()) > 0.975
    darkened = 1.0 - x[:, 1, 1, 1] / 0.5
    assert float(darkened.min()) < 0.11 and float(darkened.max()) > 0.24


def test_v4_without_an_occlusion_map_has_no_occlusion_tint() -> None:
    x = photometric(grey(), ao=None, seeds=[4], preset="v4")
    assert float(x[0, 1, 4, 4]) == 0.5


@pytest.mark.parametrize("preset", ["rev7", "v4"])
@given(seed=SEEDS, level=st.sampled_from([0.0, 0.02, 0.98, 1.0]))
@quick
def test_results_stay_in_the_range_of_a_picture(preset, seed: int, level: float) -> None:
    x = photometric(grey(level=level), ao=torch.zeros(1, 1, 9, 9), seeds=[seed], preset=preset)
    assert float(x.min()) >= 0.0 and float(x.max()) <= 1.0


def test_grain_differs_between_seeds_and_is_the_same_at_any_position() -> None:
    together = photometric(grey(32, num=3), ao=None, seeds=[1, 2, 1], preset="rev7")
    noise = [x[0] - x[0].mean() for x in together]
    assert torch.equal(together[0], together[2])
    assert abs(float(torch.corrcoef(torch.stack([g.flatten() for g in noise[:2]]))[0, 1])) < 0.2
    alone = photometric(grey(32), ao=None, seeds=[2], preset="rev7")
    torch.testing.assert_close(alone[0], together[1], atol=1e-6, rtol=0)

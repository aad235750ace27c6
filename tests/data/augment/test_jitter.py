"""Tests of the colour jitter: known colours, ranges, and equal changes of diffuse and albedo."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from pbrlib.data.augment.augmentspec import AugmentSpec, ColourJitterSpec
from pbrlib.data.augment.jitter import draw_jitter, shift_colours
from pbrlib.data.augment.pipeline import augment
from tests.data.augment.test_pipeline import raw_batch

SPEC = ColourJitterSpec(hue=0.05, saturation=0.05)
quick = settings(max_examples=50)


def scalar(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


def colours(*triples: tuple[float, float, float]) -> Tensor:
    return torch.tensor(triples).T.reshape(1, 3, 1, -1)


def test_a_third_of_the_colour_circle_turns_red_into_green() -> None:
    x = colours((1, 0, 0), (0, 1, 0), (0.5, 0.25, 0.25))
    turned = shift_colours(x, turn=scalar(1 / 3), saturation=scalar(1.0))
    expected = colours((0, 1, 0), (0, 0, 1), (0.25, 0.5, 0.25))
    torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


def test_half_the_saturation_halves_the_distance_to_grey_and_keeps_the_value() -> None:
    halved = shift_colours(colours((0.8, 0.4, 0.0)), turn=scalar(0.0), saturation=scalar(0.5))
    torch.testing.assert_close(halved, colours((0.8, 0.6, 0.4)))


@given(
    pixel=st.tuples(*(st.floats(0.0, 1.0, width=32) for _ in range(3))),
    turn=st.floats(-0.05, 0.05),
    factor=st.floats(0.95, 1.05),
)
@quick
def test_changed_colours_equal_those_of_colorsys(pixel, turn: float, factor: float) -> None:
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    expected = colorsys.hsv_to_rgb((hue + turn) % 1.0, min(saturation * factor, 1.0), value)
    changed = shift_colours(colours(pixel), turn=scalar(turn), saturation=scalar(factor))
    assert changed.flatten().tolist() == pytest.approx(expected, abs=2e-5)


def test_greys_do_not_change() -> None:
    greys = colours((0.0, 0.0, 0.0), (0.3, 0.3, 0.3), (1.0, 1.0, 1.0))
    torch.testing.assert_close(shift_colours(greys, turn=scalar(0.05), saturation=scalar(1.05)), greys)


def test_drawn_jitter_covers_its_ranges() -> None:
    turn, factor = draw_jitter(range(2000), bounds=[SPEC] * 2000)
    for drawn, middle in ((turn, 0.0), (factor, 1.0)):
        assert float((drawn - middle).abs().max()) <= 0.05 + 1e-6
        assert float(drawn.min()) < middle - 0.049 and float(drawn.max()) > middle + 0.049
    assert abs(float(np.corrcoef(turn.flatten(), factor.flatten())[0, 1])) < 0.1


@given(first=st.integers(0, 2**40))
@quick
def test_diffuse_and_albedo_of_a_modern_sample_get_the_same_jitter(first: int) -> None:
    raw = raw_batch(3)
    raw = replace(raw, seeds=raw.seeds + first)
    plain = augment(raw, AugmentSpec(), device="cpu").maps
    changed = augment(raw, AugmentSpec(colour_jitter=SPEC), device="cpu").maps
    turn, factor = draw_jitter(raw.seeds.tolist(), bounds=[SPEC] * 3)
    for name in ("diffuse", "albedo"):
        expected = shift_colours(plain[name][1:2], turn=turn[1:2], saturation=factor[1:2])
        assert torch.equal(changed[name][1:2], expected), name
        assert not torch.equal(changed[name][1:2], plain[name][1:2]), name


def test_jitter_changes_only_diffuse_and_albedo_of_modern_samples() -> None:
    raw = raw_batch(6)
    plain = augment(raw, AugmentSpec(), device="cpu").maps
    changed = augment(raw, AugmentSpec(colour_jitter=SPEC), device="cpu").maps
    for name in plain:
        same = [torch.equal(a, b) for a, b in zip(plain[name], changed[name], strict=True)]
        expected = [name not in ("diffuse", "albedo") or own for own in raw.present["diffuse"].tolist()]
        assert same == expected, name


def test_a_batch_without_albedo_is_not_jittered() -> None:
    raw = raw_batch(2, names=("diffuse", "normal", "mask"))
    batch = augment(raw, AugmentSpec(colour_jitter=SPEC), device="cpu")
    assert set(batch.maps) == {"diffuse", "normal", "mask"}


@pytest.mark.parametrize("given", [{"hue": 0.05}, {"saturation": 0.05}, {}])
def test_hue_and_saturation_are_required(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        ColourJitterSpec.model_validate(given)


def test_a_turn_over_half_the_circle_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to"):
        ColourJitterSpec(hue=math.pi, saturation=0.05)

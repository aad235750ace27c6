"""Tests of category-selective augmentation and the limits of each class."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.color import rgb_to_hsv
from pydantic import ValidationError
from torch import Tensor

from pbrlib.data.augment.augmentspec import AugmentSpec, CategorySpec, ColourJitterSpec, SkyPhotometricSpec
from pbrlib.data.augment.category import (
    Change,
    apply_changes,
    draw_changes,
    predicted_classes,
    scale_brightness,
)
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import Batch, RawBatch, sample_hashes
from pbrlib.geometry import normal_from_height
from pbrlib.maps import CLASSES, IGNORE, MAPS, class_id
from tests.data.augment.test_pipeline import raw_batch
from tests.geometry.test_geometry import smooth_height

MAY = {
    "wood": {"brightness": 0.10, "hue": 0.05, "grain": 0.15},
    "stone": {"brightness": 0.08, "dirt": 0.3},
    "metal": {"specular": 0.15},
    "fabric": {"hue": 0.12, "saturation": 0.12, "warp": 0.01},
    "leather": {"hue": 0.08, "brightness": 0.12},
    "ground": {"brightness": 0.10, "dirt": 0.3},
    "ceramic": {"brightness": 0.10, "dirt": 0.3},
}
"""The changes of the recipe; strengths of grain, dirt and warp, which it does not give, are chosen by eye."""

PROHIBITED = [
    ("wood", "hue", 0.05),
    ("wood", "saturation", 0.05),
    ("stone", "hue", 0.0),
    ("metal", "hue", 0.0),
    ("fabric", "specular", 0.0),
    ("leather", "specular", 0.0),
    ("ground", "hue", 0.05),
    ("ceramic", "hue", 0.05),
]

SPEC = CategorySpec.model_validate({"p": 1.0, "confidence": 0.8, "may": MAY})
SEEDS = st.integers(0, 2**60)
PROBABILITIES = st.sampled_from([0.0, 0.5, 1.0])
quick = settings(max_examples=20)


def everything(p: float) -> AugmentSpec:
    """Return a spec with category changes of a probability, and colour jitter for other samples."""
    return AugmentSpec(
        category=SPEC.model_copy(update={"p": p}), colour_jitter=ColourJitterSpec(hue=0.05, saturation=0.05)
    )


EVERYTHING = everything(1.0)


def labelled(name: str | None, *, seed: int, num: int = 4) -> RawBatch:
    """Samples of one class; those with an even number are old ones, whose diffuse equals their albedo.

    Colours are bright and strong, so that their hue is well defined.
    """
    raw = raw_batch(num, seed=seed % 1000, size=24)
    for map_name in ("diffuse", "albedo"):
        strong = raw.maps["albedo"] // 2 + 100
        strong[:, seed % 3] //= 4
        raw.maps[map_name] = strong.clone()
    modern = ~raw.present["diffuse"]
    raw.maps["diffuse"][modern] = MAPS["diffuse"].fill
    label = IGNORE if name is None else class_id(name)
    return replace(raw, seeds=raw.seeds + seed, classes=torch.full((num,), label))


def changed_and_plain(raw: RawBatch, spec: AugmentSpec = EVERYTHING) -> tuple[Batch, Batch]:
    return augment(raw, spec, device="cpu"), augment(raw, AugmentSpec(), device="cpu")


def hues(x: Tensor) -> Tensor:
    """Return hues as shares of the colour circle."""
    return rgb_to_hsv(x)[:, 0] / (2.0 * math.pi)


def largest_turn(a: Tensor, b: Tensor) -> float:
    certain = rgb_to_hsv(a)[:, 1] > 0.05
    distance = (hues(a) - hues(b) + 0.5).remainder(1.0) - 0.5
    return float(distance[certain].abs().max())


@pytest.mark.parametrize("name", ["stone", "metal"])
@given(seed=SEEDS, p=PROBABILITIES)
@quick
def test_stone_and_metal_never_change_hue(name: str, seed: int, p: float) -> None:
    after, before = changed_and_plain(labelled(name, seed=seed), everything(p))
    for kind in ("albedo", "diffuse"):
        assert largest_turn(before.maps[kind], after.maps[kind]) < 1e-3


@pytest.mark.parametrize("name", ["wood", "ground", "ceramic"])
@given(seed=SEEDS, p=PROBABILITIES)
@quick
def test_hue_of_wood_ground_and_ceramic_changes_by_at_most_five_percent(
    name: str, seed: int, p: float
) -> None:
    after, before = changed_and_plain(labelled(name, seed=seed), everything(p))
    for kind in ("albedo", "diffuse"):
        assert largest_turn(before.maps[kind], after.maps[kind]) <= 0.05 + 1e-3


@pytest.mark.parametrize("name", ["fabric", "leather"])
@given(seed=SEEDS)
@quick
def test_fabric_and_leather_get_no_specular_overlay(name: str, seed: int) -> None:
    """Their diffuse stays equal to the albedo, so no overlay was painted."""
    raw = labelled(name, seed=seed)
    batch = augment(raw, EVERYTHING, device="cpu")
    for position in raw.present["diffuse"].nonzero().flatten().tolist():
        assert torch.equal(batch.maps["diffuse"][position], batch.maps["albedo"][position])


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "fabric"])
@given(seed=SEEDS)
@quick
def test_without_a_warp_only_colours_change(name: str, seed: int) -> None:
    after, before = changed_and_plain(labelled(name, seed=seed))
    for kind in set(before.maps) - {"diffuse", "albedo"}:
        assert torch.equal(after.maps[kind], before.maps[kind]), kind


@pytest.mark.parametrize("name", ["wood", "stone", "metal", "ground", "ceramic"])
@given(seed=SEEDS)
@quick
def test_overlays_do_not_change_the_albedo(name: str, seed: int) -> None:
    """Dirt and grain darken the diffuse, a highlight whitens it; the albedo does not change."""
    raw = labelled(name, seed=seed)
    batch = augment(raw, EVERYTHING, device="cpu")
    old = raw.present["diffuse"]
    diffuse, albedo = batch.maps["diffuse"][old], batch.maps["albedo"][old]
    if name == "metal":
        assert (diffuse >= albedo).all() and (diffuse > albedo).any()
        assert float(((diffuse - albedo) / (1.0 - albedo).clamp_min(1e-3)).max()) <= 0.15 + 1e-5
        torch.testing.assert_close(albedo, MAPS["albedo"].decode(raw.maps["albedo"])[old])
    else:
        assert (diffuse <= albedo).all()


def test_overlays_change_the_diffuse() -> None:
    for name in ("wood", "stone", "ground", "ceramic"):
        batch = augment(labelled(name, seed=5, num=16), EVERYTHING, device="cpu")
        assert not torch.equal(batch.maps["diffuse"][::2], batch.maps["albedo"][::2]), name


@pytest.mark.parametrize(("name", "change", "limit"), PROHIBITED)
def test_a_change_over_the_limit_of_its_class_is_refused(name: str, change: str, limit: float) -> None:
    with pytest.raises(
        ValidationError, match=rf"may\.{name}\.{change}: got .*; expected (at most|no) .* for {name}"
    ):
        CategorySpec.model_validate({"p": 1.0, "confidence": 0.8, "may": {name: {change: limit + 0.01}}})
    if limit:
        CategorySpec.model_validate({"p": 1.0, "confidence": 0.8, "may": {name: {change: limit}}})


def test_an_unknown_class_is_refused_with_a_list_of_classes() -> None:
    with pytest.raises(ValidationError, match="got 'fur'; expected a class"):
        CategorySpec.model_validate({"p": 1.0, "confidence": 0.8, "may": {"fur": {"hue": 0.1}}})


def test_drawn_changes_of_a_class_cover_their_ranges() -> None:
    for name, may in MAY.items():
        changes = draw_changes([class_id(name)] * 1000, seeds=range(1000), spec=SPEC)
        assert len(changes) == 1000
        bounds = {"brightness": 1.0, "hue": 0.0, "saturation": 1.0}
        for change, middle in bounds.items():
            drawn = [getattr(one, "turn" if change == "hue" else change) - middle for one in changes.values()]
            most = may.get(change, 0.0)
            assert max(map(abs, drawn)) <= most + 1e-12
            assert max(drawn) >= 0.98 * most and min(drawn) <= -0.98 * most
        for change in ("grain", "dirt"):
            assert 0.98 * may.get(change, 0.0) <= max(getattr(one, change) for one in changes.values())
            assert max(getattr(one, change) for one in changes.values()) <= may.get(change, 0.0)
        for change in ("specular", "warp"):
            assert {getattr(one, change) for one in changes.values()} == {may.get(change, 0.0)}


def test_changes_have_their_probability_and_need_a_known_class() -> None:
    spec = SPEC.model_copy(update={"p": 0.3})
    classes = [class_id("wood"), IGNORE] * 1000
    changes = draw_changes(classes, seeds=range(2000), spec=spec)
    assert {position % 2 for position in changes} == {0}
    assert len(changes) / 1000 == pytest.approx(0.3, abs=0.05)


def test_colour_jitter_of_an_unknown_class_uses_the_lowest_limits() -> None:
    after, before = changed_and_plain(labelled(None, seed=3, num=16))
    assert largest_turn(before.maps["albedo"], after.maps["albedo"]) < 1e-3
    assert not torch.equal(before.maps["albedo"], after.maps["albedo"])


@given(seed=SEEDS)
@quick
def test_diffuse_and_albedo_get_the_same_change_of_colour(seed: int) -> None:
    raw = labelled("leather", seed=seed)
    after, before = changed_and_plain(raw)
    (change, *_) = draw_changes([class_id("leather")], seeds=raw.seeds.tolist()[:1], spec=SPEC).values()
    assert not torch.equal(after.maps["albedo"], before.maps["albedo"])
    assert abs(change.turn) <= 0.08
    measured = hues(after.maps["albedo"][:1]) - hues(before.maps["albedo"][:1])
    measured = (measured + 0.5).remainder(1.0) - 0.5
    torch.testing.assert_close(measured, torch.full_like(measured, change.turn), atol=2e-3, rtol=0)


def test_brightness_keeps_hue_and_saturation_even_if_clipped() -> None:
    x = torch.tensor([0.95, 0.5, 0.1]).view(1, 3, 1, 1)
    brighter = scale_brightness(x, factor=torch.full((1, 1, 1, 1), 1.1))
    torch.testing.assert_close(brighter.flatten(), torch.tensor([1.0, 0.5 / 0.95, 0.1 / 0.95]))
    darker = scale_brightness(x, factor=torch.full((1, 1, 1, 1), 0.9))
    torch.testing.assert_close(darker, x * 0.9)


def test_a_warp_moves_every_map_of_a_sample_equally() -> None:
    """All maps contain the same height; after the warp they are still equal."""
    ramp = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    ramp = torch.nn.functional.interpolate(ramp, size=(64, 64), mode="bilinear", align_corners=True)
    maps = {
        name: ramp.expand(2, kind.channels, -1, -1).clone() for name, kind in MAPS.items() if name != "normal"
    }
    maps["mask"] = (ramp[:, 0] > 0.5).long().expand(2, -1, -1).clone()
    maps["normal"] = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).repeat(2, 1, 64, 64)
    moved = apply_changes(maps, {1: Change(seed=4, warp=0.02)})
    height = moved["height"][1]
    assert float((height - ramp[0]).abs().max()) > 0.02
    for name, x in moved.items():
        assert torch.equal(x[0], maps[name][0]), name
        if name not in ("normal", "mask"):
            torch.testing.assert_close(x[1], height.expand_as(x[1]))
    clear = (height[0] - 0.5).abs() > 0.05
    assert torch.equal(moved["mask"][1][clear], (height[0] > 0.5).long()[clear])
    torch.testing.assert_close(moved["normal"][1], maps["normal"][1])


def test_the_normals_of_a_warped_sample_are_those_of_its_warped_height() -> None:
    height = smooth_height(3, size=96) * 4.0
    normal = normal_from_height(height, scale_px=1.0, tileable=False)
    moved = apply_changes({"height": height, "normal": normal}, {0: Change(seed=4, warp=0.02)})
    derived = normal_from_height(moved["height"], scale_px=1.0, tileable=False)
    error = (derived - moved["normal"])[..., 2:-2, 2:-2].abs().mean()
    assert float(error) < 0.1 * float((normal - derived)[..., 2:-2, 2:-2].abs().mean())


@given(num=st.integers(1, 5), parts=st.integers(1, 6), seed=SEEDS)
@settings(max_examples=15)
def test_augmenting_a_batch_in_parts_gives_the_same_bits(num: int, parts: int, seed: int) -> None:
    spec = EVERYTHING.model_copy(
        update={"flip": True, "rotate90": True, "sky_photometric": SkyPhotometricSpec(p=0.5)}
    )
    raw = raw_batch(num, size=17)
    raw = replace(raw, seeds=raw.seeds + seed)
    split = [augment(part, spec, device="cpu") for part in raw.split(parts) if len(part)]
    assert sample_hashes(Batch.concatenate(split)) == sample_hashes(augment(raw, spec, device="cpu"))


@pytest.mark.gpu
def test_changes_on_gpu_and_cpu_are_equal() -> None:
    """Grain is excluded, since its noise is drawn on the device."""
    may = {name: {k: v for k, v in changes.items() if k != "grain"} for name, changes in MAY.items()}
    category = CategorySpec.model_validate({"p": 0.7, "confidence": 0.8, "may": may})
    spec = EVERYTHING.model_copy(update={"category": category})
    raw = raw_batch(14, size=64)
    here, there = augment(raw, spec, device="cpu"), augment(raw, spec, device="cuda").to("cpu")
    for name in set(here.maps) - {"mask"}:
        torch.testing.assert_close(there.maps[name], here.maps[name], atol=1e-3, rtol=0)
    assert float((there.maps["mask"] != here.maps["mask"]).float().mean()) < 1e-3


def test_confidence_is_the_mean_probability_of_one_class() -> None:
    sure, torn, halves = torch.zeros(3, 7, 4, 4).unbind(0)
    sure[5] = 0.9
    sure[0] = 0.1
    torn[5] = 0.79
    torn[4] = 0.21
    halves[4, :2] = 1.0
    halves[5, 2:] = 1.0  # certain of every pixel, but of two classes
    answers = torch.stack((sure, torn, halves))
    assert predicted_classes(answers, confidence=0.8) == [class_id("stone"), IGNORE, IGNORE]
    assert predicted_classes(answers, confidence=0.75) == [class_id("stone"), class_id("stone"), IGNORE]

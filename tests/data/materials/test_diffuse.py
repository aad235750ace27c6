from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib.data.materials.diffuse import albedo_match, is_metal
from pbrlib.data.materials.material import Material
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.maps import MAPS, Stored
from pbrlib.rendering.bake import bake, draw_params
from pbrlib.rendering.bakespec import BAKE_INPUTS, BakeSpec
from tests.data.shards.test_duplicates import compressed


def load(family: str) -> Material:
    source = GeneratedSource(count=1, size=128, seed=5, families=(family,))
    return source.load(source.entries()[0])


@pytest.fixture(scope="module")
def bricks() -> Material:
    return load("stone/brick")


def baked(material: Material, seed: int) -> Stored:
    maps = {
        name: MAPS[name].decode(torch.from_numpy(material.maps[name].transpose(2, 0, 1).copy())[None])
        for name in BAKE_INPUTS
    }
    diffuse = bake(maps, params=draw_params(torch.tensor([seed]), spec=BakeSpec())).diffuse
    return MAPS["diffuse"].quantise(diffuse[0].permute(1, 2, 0).numpy())


def same(diffuse: Stored, material: Material) -> str | None:
    return albedo_match(diffuse, material.maps["albedo"], normal=material.maps["normal"])


@settings(max_examples=20)
@given(gains=st.tuples(*[st.floats(0.7, 1.1)] * 3))
def test_a_compressed_albedo_is_detected_at_any_exposure(
    bricks: Material, gains: tuple[float, float, float]
) -> None:
    exposed = np.rint(bricks.maps["albedo"] * np.array(gains)).clip(0, 255).astype(np.uint8)
    assert same(compressed(exposed), bricks) is not None


@pytest.mark.parametrize("family", ["stone/brick", "ground/gravel", "leather/scaled", "ceramic/roof"])
def test_a_baked_diffuse_does_not_match_the_albedo(family: str) -> None:
    material = load(family)
    assert [same(baked(material, seed), material) for seed in range(4)] == [None] * 4


def test_half_of_the_albedo_does_not_match_the_albedo(bricks: Material) -> None:
    assert same(bricks.maps["albedo"] // 2, bricks) is None


def test_another_picture_does_not_match_the_albedo(bricks: Material) -> None:
    assert same(np.roll(bricks.maps["albedo"], 37, axis=1), bricks) is None


def test_faint_painted_light_is_distinguished_from_compression(bricks: Material) -> None:
    """A shade of two steps of 255, less than compression noise, is light if it correlates with normals."""
    albedo = np.full_like(bricks.maps["albedo"], 120)
    albedo[::8] = 128
    facing = bricks.maps["normal"][..., :1].astype(float) / 127.5 - 1
    shade = np.rint(facing / np.abs(facing).mean() * 2.5)
    shuffled = np.random.default_rng(0).permutation(shade.ravel()).reshape(shade.shape)
    found = [
        albedo_match((albedo + change).astype(np.uint8), albedo, normal=bricks.maps["normal"])
        for change in (shade, shuffled)
    ]
    assert found[0] is None
    assert found[1] is not None


def test_a_picture_below_the_size_of_a_block_is_compared_pixel_by_pixel() -> None:
    albedo = np.full((2, 2, 3), 100, np.uint8)
    normal = np.full((2, 2, 3), 128, np.uint8)
    assert albedo_match(albedo + np.uint8(1), albedo, normal=normal) is not None
    assert albedo_match(albedo // 2, albedo, normal=normal) is None


def test_metal_is_detected_by_map_then_mask_then_class(bricks: Material) -> None:
    ones = np.full((128, 128, 1), 255, np.uint8)
    metal_mask = np.full((128, 128, 1), 4, np.uint8)
    without = {name: bricks.maps[name] for name in ("albedo", "normal")}
    assert not is_metal(bricks)
    assert is_metal(replace(bricks, maps={**bricks.maps, "metallic": ones}))
    assert not is_metal(replace(bricks, maps={**without, "metallic": ones // 3, "mask": metal_mask}))
    assert is_metal(replace(bricks, maps={**without, "mask": metal_mask}))
    assert is_metal(replace(bricks, maps=without, label="metal"))
    assert not is_metal(replace(bricks, maps=without, label=None))

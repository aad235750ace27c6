"""Tests of names of pictures of ambientCG, Poly Haven, Quixel and others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.sources.filenames import describe_unread_map, parse_name
from pbrlib.maps import MAPS, PACKED


@pytest.mark.parametrize(
    ("stem", "maps", "prefix"),
    [
        ("albedo", "albedo", ""),
        ("Rough", "roughness", ""),
        ("AmbientOcclusion", "ao", ""),
        ("metalness", "metallic", ""),
        ("base color", "albedo", ""),
        ("HeightMap", "height", ""),
        ("Bark014_2K-JPG_Color", "albedo", "Bark014"),
        ("Bark014_2K-JPG_Displacement", "height", "Bark014"),
        ("Bark014_1K-PNG_Metalness", "metallic", "Bark014"),
        ("rock_058_diff_2k", "albedo", "rock_058"),
        ("rock_058_rough_4k", "roughness", "rock_058"),
        ("rock_058_disp_2k", "height", "rock_058"),
        ("rock_058_ao_1k", "ao", "rock_058"),
        ("ulvmbhdqx_4K_Albedo", "albedo", "ulvmbhdqx"),
        ("ulvmbhdqx_4K_Normal_LOD0", "normal", "ulvmbhdqx"),
        ("ulvmbhdqx_8K_Bump", "height", "ulvmbhdqx"),
        ("Wall_Base_Color", "albedo", "Wall"),
        ("Wall-Ambient-Occlusion-1024x1024", "ao", "Wall"),
        ("WallRoughness", "roughness", "Wall"),
        ("rusty_metal_roughness", "roughness", "rusty_metal"),
        ("worn_metal_02_metal_1k", "metallic", "worn_metal_02"),
        ("Кирпич_normal", "normal", "Кирпич"),
        ("wall_diffuse", "diffuse", "wall"),
    ],
)
def test_a_name_gives_the_map_and_the_material(stem: str, maps: str, prefix: str) -> None:
    name = parse_name(stem)
    assert name is not None
    assert (name.maps, name.prefix) == ((maps,), prefix)
    assert not name.is_inverted


@pytest.mark.parametrize("stem", ["x_NormalGL", "x_nor_gl_2k", "x-normal-ogl", "x_Normal_OpenGL"])
def test_an_opengl_name_is_recognised(stem: str) -> None:
    name = parse_name(stem)
    assert name is not None
    assert (name.maps, name.is_opengl, name.is_inverted) == (("normal",), True, False)


@pytest.mark.parametrize("stem", ["x_NormalDX", "x_nor_dx_2k", "x-normal-dx", "x_Normal_DirectX"])
def test_a_directx_name_is_inverted(stem: str) -> None:
    name = parse_name(stem)
    assert name is not None
    assert (name.maps, name.is_opengl, name.is_inverted) == (("normal",), False, True)


@pytest.mark.parametrize("stem", ["gloss", "Wall_Glossiness", "wall_smoothness_2k"])
def test_gloss_is_inverted_roughness(stem: str) -> None:
    name = parse_name(stem)
    assert name is not None
    assert (name.maps, name.is_inverted) == (("roughness",), True)


@pytest.mark.parametrize(
    ("stem", "maps"),
    [
        ("rock_arm_2k", ("ao", "roughness", "metallic")),
        ("Wall_ORM", ("ao", "roughness", "metallic")),
        ("wall_OcclusionRoughnessMetallic", ("ao", "roughness", "metallic")),
        ("RMA", ("roughness", "metallic", "ao")),
        ("wall_rmaos", ("roughness", "metallic", "ao")),
        ("wall_metallicRoughness", (None, "roughness", "metallic")),
    ],
)
def test_a_packed_name_gives_the_map_of_each_channel(stem: str, maps: tuple[str | None, ...]) -> None:
    name = parse_name(stem)
    assert name is not None
    assert (name.maps, name.is_packed) == (maps, True)


@pytest.mark.parametrize(
    "stem", ["", "...", "Bark014", "rockalbedo", "wall_mask", "wall_opacity", "wall_Specular_4K", "abnormal"]
)
def test_other_names_give_no_map(stem: str) -> None:
    assert parse_name(stem) is None


def test_recognised_unread_maps_are_described() -> None:
    assert describe_unread_map("wall_Specular_4K") == "the specular workflow"
    assert describe_unread_map("World_Space_Normal") == "other normals"
    assert describe_unread_map("wall") is None


@given(st.text(max_size=40))
def test_arbitrary_names_are_parsed_without_an_error(stem: str) -> None:
    name = parse_name(stem)
    assert name is None or (stem.startswith(name.prefix) and set(name.maps) <= {None, *MAPS})


def test_no_name_belongs_to_two_maps() -> None:
    names = [
        name
        for kind in MAPS.values()
        if kind.file
        for name in (kind.file, *kind.aliases, *kind.inverted_aliases)
    ]
    names += list(PACKED)
    assert len(names) == len(set(names))

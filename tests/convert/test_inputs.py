from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from pbrlib.convert.inputs import encode_maps, prepare_pair, require_maps
from pbrlib.convert.seams import SeamRatio, seam_over_mean
from pbrlib.errors import CheckpointError, DataError
from pbrlib.geometry import flip_green, normal_from_height
from pbrlib.maps import NORMAL, TRUE_PBR
from tests.convert.textures import FakeNetworks, normal, picture


def test_directx_normals_become_opengl_and_the_original_again() -> None:
    prepared = prepare_pair(picture(), normal())
    assert prepared.texture.normal[1, -1, 0] == pytest.approx(-0.707, abs=0.01)
    written = encode_maps(prepared, FakeNetworks().predict(prepared.texture)).normal
    assert np.abs(written.astype(int) - normal()[..., :3]).max() <= 1


def test_normals_are_of_unit_length() -> None:
    flattened = normal()
    flattened[..., 2] = 200
    lengths = prepare_pair(picture(), flattened).texture.normal.norm(dim=0)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_z_of_two_channel_normals_follows_from_unit_length() -> None:
    full = prepare_pair(picture(), normal()).texture.normal
    two = prepare_pair(picture(), np.ascontiguousarray(normal()[..., :2]))
    torch.testing.assert_close(two.texture.normal, full, atol=0.02, rtol=0)
    assert two.texture.gloss is None
    assert "no gloss in the normal's alpha" in two.notes


def test_gloss_is_the_alpha_of_the_normal_unless_it_is_all_white() -> None:
    gloss = prepare_pair(picture(), normal(gloss=51)).texture.gloss
    assert gloss is not None
    torch.testing.assert_close(gloss, torch.full((1, 16, 16), 0.2))
    assert prepare_pair(picture(), normal(gloss=255)).texture.gloss is None


def test_a_normal_of_another_size_is_resized_to_the_diffuse() -> None:
    prepared = prepare_pair(picture(16, 16), normal(32, 32))
    assert prepared.texture.normal.shape == (3, 16, 16)
    assert prepared.notes == ("normal of 32 x 32 px resized to the size of the diffuse",)
    torch.testing.assert_close(prepared.texture.normal.norm(dim=0), torch.ones(16, 16))


def test_sides_become_multiples_of_four_with_a_note() -> None:
    prepared = prepare_pair(picture(10, 13), normal(10, 13))
    assert prepared.texture.diffuse.shape == (3, 12, 16)
    assert prepared.notes == ("13 x 10 px resized to 16 x 12, multiples of 4",)


def test_a_normal_with_the_wrong_green_channel_is_noted() -> None:
    y, x = torch.meshgrid(torch.linspace(-2, 2, 96), torch.linspace(-2, 2, 96), indexing="ij")
    height = torch.exp(-x.square() - y.square())[None, None]
    opengl = normal_from_height(height, scale_px=40.0, tileable=False)
    notes = []
    for vectors in (flip_green(opengl), opengl):
        pixels = NORMAL.quantise(vectors[0].permute(1, 2, 0).numpy())
        pixels = np.concatenate((pixels, np.full_like(pixels[..., :1], 90)), axis=-1)
        notes.append(prepare_pair(picture(96, 96), pixels).notes)
    assert notes[0] == ()
    assert notes[1] == (
        "the normal looks like OpenGL (Y up), but was read as DirectX (Y down), as the game reads it",
    )


def test_the_alpha_of_the_diffuse_is_kept() -> None:
    prepared = prepare_pair(picture(alpha=51), normal())
    maps = encode_maps(prepared, FakeNetworks().predict(prepared.texture))
    assert set(np.unique(maps.albedo[..., 3])) == {51}


def test_a_missing_network_is_an_error_that_names_its_map() -> None:
    prepared = prepare_pair(picture(), normal())
    maps = FakeNetworks().predict(prepared.texture)
    del maps["ao"], maps["metallic"]
    with pytest.raises(CheckpointError, match="no trained network for metallic, ao"):
        encode_maps(prepared, maps)


def test_maps_that_true_pbr_does_not_need_are_ignored() -> None:
    prepared = prepare_pair(picture(), normal())
    maps = FakeNetworks().predict(prepared.texture)
    alone, beside = encode_maps(prepared, maps), encode_maps(prepared, maps | {"specular": maps["roughness"]})
    for field in fields(alone):
        assert np.array_equal(getattr(alone, field.name), getattr(beside, field.name))


@pytest.mark.parametrize("name", TRUE_PBR)
def test_every_map_that_true_pbr_needs_is_required(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"no trained network for {name}, which True PBR needs"):
        require_maps(set(TRUE_PBR) - {name}, place="runs")


def test_formats_of_the_wrong_kind_are_an_error() -> None:
    with pytest.raises(DataError, match="two channels"):
        prepare_pair(np.zeros((4, 4, 2), np.uint8), normal())
    with pytest.raises(DataError, match="the normal: got one channel, a bump or height map"):
        prepare_pair(picture(), np.zeros((4, 4, 1), np.uint8))


def test_the_seam_ratio_is_one_if_the_border_is_like_the_inside() -> None:
    noise = seam_over_mean(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert (noise.columns, noise.rows) == (pytest.approx(1.0, abs=0.15), pytest.approx(1.0, abs=0.15))
    assert noise.is_tileable


def test_the_seam_ratio_of_a_ramp_is_large_along_it_and_one_across() -> None:
    ramp = seam_over_mean(torch.arange(64).expand(1, 64, 64) / 63.0)
    assert ramp.columns > 10
    assert ramp.rows == 1.0
    assert not ramp.is_tileable


def test_a_tileable_diffuse_is_marked_for_the_networks() -> None:
    assert prepare_pair(picture(64, 64), normal(64, 64)).texture.tileable
    cut = np.ascontiguousarray(picture(64, 64)[:40])
    assert not prepare_pair(cut, normal(40, 64)).texture.tileable


def test_a_texture_is_tileable_only_if_both_borders_match() -> None:
    good = SeamRatio(columns=1.0, rows=1.0)
    assert good.is_tileable
    assert not replace(good, rows=2.0).is_tileable

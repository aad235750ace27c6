"""Tests of the old-style bake."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pbrlib.geometry import normal_from_height
from pbrlib.rendering.bake import BakeParams, bake, draw_params
from pbrlib.rendering.bakespec import BAKE_INPUTS, BakeSpec

PLAIN = BakeSpec(
    elevation_deg=(45.0, 45.0),
    light=(0.0, 0.0),
    occlusion=(0.0, 0.0),
    cavity=(0.0, 0.0),
    specular=(0.0, 0.0),
    metal_darkening=(0.0, 0.0),
    exposure=(1.0, 1.0),
    contrast=(1.0, 1.0),
    saturation=(1.0, 1.0),
    cast=(1.0, 1.0),
    dirt_share=0.0,
    gloss_gamma=(1.0, 1.0),
    gloss_gain=(1.0, 1.0),
    gloss_offset=(0.0, 0.0),
    gloss_constant_share=0.0,
    gloss_unrelated_share=0.0,
)
"""A spec with every effect disabled."""


def material(num: int = 1, *, size: int = 32, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-3.0, 3.0, size)
    bump = torch.exp(-(axis.view(-1, 1).square() + axis.square())).expand(num, 1, size, size)
    return {
        "albedo": 0.2 + 0.6 * torch.rand(num, 3, size, size, generator=generator),
        "normal": normal_from_height(bump, scale_px=4.0, tileable=False),
        "roughness": torch.rand(num, 1, size, size, generator=generator),
        "metallic": torch.zeros(num, 1, size, size),
        "ao": 0.5 + 0.5 * torch.rand(num, 1, size, size, generator=generator),
    }


def baked_with(seed: int = 1, *, maps: dict[str, Tensor] | None = None, **changed: object) -> Tensor:
    spec = PLAIN.model_copy(update=changed)
    return bake(maps or material(), params=draw_params(torch.tensor([seed]), spec=spec)).diffuse


def test_with_every_effect_off_the_diffuse_is_the_albedo_and_gloss_one_minus_roughness():
    maps = material()
    diffuse, gloss = bake(maps, params=draw_params(torch.tensor([1]), spec=PLAIN))
    torch.testing.assert_close(diffuse, maps["albedo"], atol=2e-4, rtol=0)
    torch.testing.assert_close(gloss, 1.0 - maps["roughness"])


def test_parameters_of_a_sample_depend_on_its_seed_only():
    together = draw_params(torch.tensor([5, 6, 7]), spec=BakeSpec())
    alone = draw_params(torch.tensor([6]), spec=BakeSpec())
    for field in fields(BakeParams):
        assert torch.equal(getattr(together, field.name)[1:2], getattr(alone, field.name))
    assert not torch.equal(together.direction[0], together.direction[1])


def test_all_parameters_are_in_their_ranges():
    spec = BakeSpec()
    params = draw_params(torch.arange(300), spec=spec)
    for name in ("light", "occlusion", "cavity", "cavity_gain", "specular", "exposure", "contrast", "cast"):
        low, high = getattr(spec, name)
        drawn = getattr(params, name)
        assert low <= float(drawn.min()) < low + 0.1 * (high - low), name
        assert high >= float(drawn.max()) > low + 0.8 * (high - low), name
    torch.testing.assert_close(params.direction.norm(dim=1), torch.ones(300, 1, 1))
    assert float((params.dirt > 0).float().mean()) == pytest.approx(spec.dirt_share, abs=0.1)
    constant, unrelated = params.gloss_source.flatten(1)[:, 1:].mean(dim=0).tolist()
    assert constant == pytest.approx(spec.gloss_constant_share, abs=0.06)
    assert unrelated == pytest.approx(spec.gloss_unrelated_share, abs=0.06)


def test_the_side_towards_the_light_is_brighter():
    maps = material() | {"albedo": torch.full((1, 3, 32, 32), 0.5)}
    params = draw_params(torch.tensor([3]), spec=PLAIN.model_copy(update={"light": (0.8, 0.8)}))
    diffuse = bake(maps, params=params).diffuse
    towards = (maps["normal"] * params.direction).sum(dim=1, keepdim=True)
    facing, averted = towards > towards.quantile(0.95), towards < towards.quantile(0.05)
    brightness = diffuse.mean(dim=1, keepdim=True)
    assert float(brightness[facing].mean()) > float(brightness[averted].mean()) + 0.1
    flat = maps["normal"][:, 2:] > 0.9999
    torch.testing.assert_close(brightness[flat], torch.full_like(brightness[flat], 0.5), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "effect",
    [
        {"light": (0.8, 0.8)},
        {"occlusion": (1.0, 1.0)},
        {"cavity": (0.5, 0.5)},
        {"specular": (0.2, 0.2)},
        {"exposure": (0.7, 0.7)},
        {"contrast": (1.3, 1.3)},
        {"saturation": (0.5, 0.5)},
        {"cast": (0.9, 0.9)},
        {"dirt_share": 1.0},
    ],
    ids=lambda effect: next(iter(effect)),
)
def test_each_effect_changes_the_diffuse_and_stays_in_range(effect):
    diffuse = baked_with(**effect)
    assert float((diffuse - baked_with()).abs().mean()) > 0.003
    assert float(diffuse.min()) >= 0.0 and float(diffuse.max()) <= 1.0


def test_only_metals_are_darker_than_their_albedo():
    metal = material() | {"metallic": torch.ones(1, 1, 32, 32)}
    assert float((baked_with(maps=metal, metal_darkening=(0.5, 0.5)) / metal["albedo"]).max()) < 0.8
    other = material()
    assert torch.equal(baked_with(maps=other, metal_darkening=(0.5, 0.5)), baked_with(maps=other))


def test_glossy_surfaces_have_a_stronger_highlight():
    rough, glossy = (material() | {"roughness": torch.full((1, 1, 32, 32), r)} for r in (0.9, 0.1))
    gains = [baked_with(maps=m, specular=(0.2, 0.2)) - baked_with(maps=m) for m in (rough, glossy)]
    assert float(gains[1].mean()) > 3.0 * float(gains[0].mean()) > 0.0


def test_occlusion_darkens_occluded_pixels():
    maps = material()
    darker = baked_with(maps=maps, occlusion=(1.0, 1.0)) < baked_with(maps=maps) - 1e-3
    assert bool(darker[(maps["ao"] < 0.9).expand_as(darker)].all())


def test_gloss_can_be_constant_or_the_brightness_of_the_diffuse():
    maps = material()
    constant = PLAIN.model_copy(update={"gloss_constant_share": 1.0})
    assert len(bake(maps, params=draw_params(torch.tensor([1]), spec=constant)).gloss.unique()) == 1
    unrelated = PLAIN.model_copy(update={"gloss_unrelated_share": 1.0})
    first = bake(maps, params=draw_params(torch.tensor([1]), spec=unrelated)).gloss
    other_roughness = maps | {"roughness": 1.0 - maps["roughness"]}
    assert torch.equal(
        first, bake(other_roughness, params=draw_params(torch.tensor([1]), spec=unrelated)).gloss
    )


def test_the_direction_of_the_light_depends_only_on_the_seed():
    dome, pit = material()["normal"], material()["normal"] * torch.tensor([-1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    maps = material() | {"albedo": torch.full((1, 3, 32, 32), 0.5)}
    of_dome = baked_with(maps=maps | {"normal": dome}, light=(0.6, 0.6))
    of_pit = baked_with(maps=maps | {"normal": pit}, light=(0.6, 0.6))
    torch.testing.assert_close(of_pit, of_dome.flip(-1, -2), atol=1e-4, rtol=0)


def test_the_bake_reads_exactly_its_declared_inputs():
    maps = material(2)
    params = draw_params(torch.tensor([1, 2]), spec=BakeSpec())
    diffuse, gloss = bake({name: maps[name] for name in BAKE_INPUTS}, params=params)
    assert diffuse.shape == (2, 3, 32, 32) and gloss.shape == (2, 1, 32, 32)
    assert bool(diffuse.isfinite().all() and gloss.isfinite().all())


def test_a_reversed_range_is_refused_with_a_remedy():
    with pytest.raises(ValidationError, match="Put the smaller bound first"):
        BakeSpec(light=(0.9, 0.1))
    with pytest.raises(ValidationError, match="cavity_gain"):
        BakeSpec(cavity_gain=(0.0, 1.0))

"""Declaration of the parameter ranges of a bake in a curriculum."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat

from pbrlib.spec import Spec

BAKE_INPUTS = ("albedo", "normal", "roughness", "metallic", "ao")
"""The maps that the bake reads."""


def _check_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(
            f"got the empty range {list(bounds)}; expected [low, high]. Put the smaller bound first."
        )
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_check_order)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_check_order)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class BakeSpec(Spec):
    """Ranges from which the parameters of a bake are drawn uniformly.

    Attributes:
        elevation_deg: Elevation of the light above the surface, in degrees; every azimuth is equally likely.
        light: Share of directional light; the rest is ambient.
        occlusion: Exponent of the ambient occlusion.
        cavity: Strength of darkened dents and brightened bumps.
        cavity_gain: Factor of the divergence of the normals, whose product is clipped to [-1, 1]. Drawn
            uniformly on a logarithmic scale, since the relief of textures differs by such factors.
        specular: Strength of the painted highlight.
        metal_darkening: Share of the albedo that is removed from metals.
        exposure: Gain in linear light.
        contrast: Gain around a middle grey.
        saturation: Factor of the saturation: 0 gives grey, 1 changes nothing.
        cast: Gain of each colour channel.
        dirt: Strength of the dirt of textures with dirt.
        dirt_share: Share of textures with dirt.
        gloss_gamma: Exponent of the encoding of gloss.
        gloss_gain: Gain of the encoding of gloss.
        gloss_offset: Offset of the encoding of gloss.
        gloss_constant_share: Share of textures with a constant gloss.
        gloss_unrelated_share: Share of textures whose gloss is the brightness of the diffuse.
    """

    elevation_deg: Range = (30.0, 70.0)
    light: Range = (0.3, 1.0)
    occlusion: Range = (0.6, 1.6)
    cavity: Range = (0.1, 0.8)
    cavity_gain: PositiveRange = (4.0, 60.0)
    specular: Range = (0.0, 0.12)
    metal_darkening: Range = (0.45, 0.8)
    exposure: Range = (0.6, 1.0)
    contrast: Range = (0.95, 1.35)
    saturation: Range = (0.75, 1.05)
    cast: Range = (0.96, 1.03)
    dirt: Range = (0.05, 0.4)
    dirt_share: Share = 0.5
    gloss_gamma: Range = (0.5, 2.0)
    gloss_gain: Range = (0.6, 1.1)
    gloss_offset: Range = (-0.1, 0.25)
    gloss_constant_share: Share = 0.12
    gloss_unrelated_share: Share = 0.15

"""What a bake is drawn from, as a curriculum declares it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat

from pbrlib.spec import Spec

BAKE_INPUTS = ("albedo", "normal", "roughness", "metallic", "ao")
"""The maps that the bake reads."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the range {list(bounds)} is empty. Put the smaller bound first.")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class BakeSpec(Spec):
    """Ranges that the parameters of a bake are drawn from, uniformly.

    Attributes:
        elevation_deg: Height of the light over the surface; its azimuth is free.
        light: Share of directional light; the rest is ambient.
        occlusion: Exponent of the ambient occlusion.
        cavity: Strength of darkened dents and brightened bumps.
        cavity_gain: Bends per pixel are multiplied by this and cut at 1; drawn by its logarithm, since
            relief differs that much between textures and artists painted it in regardless.
        specular: Strength of the painted highlight.
        metal_darkening: Share of the albedo that metals lose.
        exposure: Gain in linear light.
        contrast: Gain around a middle grey.
        saturation: 0 is grey, 1 as it was.
        cast: Gain of each colour channel.
        dirt: Strength of dirt, where there is any.
        dirt_share: Share of textures with dirt.
        gloss_gamma: Exponent of the encoding of gloss.
        gloss_gain: Gain of the same.
        gloss_offset: Offset of the same.
        gloss_constant_share: Share of textures whose gloss is a constant.
        gloss_unrelated_share: Share whose gloss was made from the brightness of the diffuse.
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

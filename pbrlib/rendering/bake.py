"""Old-style bake: what a texture artist of 2011 would have painted of a modern material.

True pairs of old and new textures are scarce, modern sets are many. The bake gives such a set an old
diffuse, with light, cavities, highlights, contrast, a cast and dirt painted in, and an old gloss map.
Light is computed in linear space; the artist's part is done on sRGB values, as in a paint program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from kornia.color import linear_rgb_to_rgb, rgb_to_grayscale, rgb_to_linear_rgb
from torch import Tensor

from pbrlib.rendering.bakespec import BakeSpec
from pbrlib.seeds import mix

DIRT_GRID = 12
"""Cells a side of the smooth noise that dirt follows."""


@dataclass(frozen=True)
class BakeParams:
    """What was drawn for each sample; scalars are ``(n, 1, 1, 1)`` so that they broadcast."""

    direction: Float[Tensor, "n 3 1 1"]  # towards the light, unit length
    light: Float[Tensor, "n 1 1 1"]
    occlusion: Float[Tensor, "n 1 1 1"]
    cavity: Float[Tensor, "n 1 1 1"]
    cavity_gain: Float[Tensor, "n 1 1 1"]
    specular: Float[Tensor, "n 1 1 1"]
    metal_darkening: Float[Tensor, "n 1 1 1"]
    exposure: Float[Tensor, "n 1 1 1"]
    contrast: Float[Tensor, "n 1 1 1"]
    saturation: Float[Tensor, "n 1 1 1"]
    cast: Float[Tensor, "n 3 1 1"]
    dirt: Float[Tensor, "n 1 1 1"]
    dirt_noise: Float[Tensor, "n 1 g g"]  # [0, 1]
    gloss_gamma: Float[Tensor, "n 1 1 1"]
    gloss_gain: Float[Tensor, "n 1 1 1"]
    gloss_offset: Float[Tensor, "n 1 1 1"]
    gloss_source: Float[Tensor, "n 3 1 1"]  # one of roughness, constant, brightness is 1
    gloss_constant: Float[Tensor, "n 1 1 1"]

    def to(self, device: torch.device | str) -> BakeParams:
        """Moves every tensor."""
        return BakeParams(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )


class Baked(NamedTuple):
    """An old pair: diffuse, sRGB in [0, 1], and gloss in [0, 1], whatever its artist meant by it."""

    diffuse: Float[Tensor, "n 3 h w"]
    gloss: Float[Tensor, "n 1 h w"]


def draw_params(seeds: Int64[Tensor, " n"], *, spec: BakeSpec) -> BakeParams:
    """Draws the parameters of each sample from its own seed alone, on the CPU."""
    drawn = [_draw_one(seed, spec) for seed in seeds.tolist()]
    return BakeParams(**{f.name: torch.stack([one[f.name] for one in drawn]) for f in fields(BakeParams)})


def bake(maps: Mapping[str, Float[Tensor, "n _ h w"]], *, params: BakeParams) -> Baked:
    """Paints an old diffuse and gloss.

    Bake after the maps are turned: the light then comes from the same side whatever the turn.

    Args:
        maps: At least ``BAKE_INPUTS``, decoded.
        params: On the device of the maps.
    """
    lit = _lit(maps, params)
    diffuse = _painted(linear_rgb_to_rgb(lit), maps["ao"], params)
    return Baked(diffuse, _gloss(maps["roughness"], diffuse, params))


def _lit(maps: Mapping[str, Tensor], params: BakeParams) -> Tensor:
    """Linear light of the surface under one lamp, the sky and its own cavities."""
    normal, metallic, direction = maps["normal"], maps["metallic"], params.direction
    albedo: Tensor = rgb_to_linear_rgb(maps["albedo"])
    toward = direction[:, 2:]
    lambert = _dot(normal, direction).clamp_min(0.0) / toward
    shade = 1.0 + params.light * (lambert - 1.0)
    shade = shade * maps["ao"].clamp_min(1e-3).pow(params.occlusion)
    shade = shade * (1.0 + params.cavity * _cavity(normal, params.cavity_gain))
    body = albedo * (1.0 - params.metal_darkening * metallic) * shade
    tint = 1.0 + metallic * (albedo - 1.0)
    highlight = params.specular * _highlight(normal, 1.0 - maps["roughness"], direction) * maps["ao"]
    return (params.exposure * (body + highlight * tint)).clamp(0.0, 1.0)


def _highlight(normal: Tensor, gloss: Tensor, direction: Tensor) -> Tensor:
    """A broad Blinn lobe: painted highlights are blurred ones, stronger where glossier."""
    half = direction + direction.new_tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    half = half / _dot(half, half).sqrt()
    facing = _dot(normal, half).clamp_min(0.0)
    lobe = facing.square().square()
    return gloss * (lobe.square() * lobe)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar product over channels."""
    return (a * b).sum(dim=1, keepdim=True)


def _cavity(normal: Tensor, gain: Tensor) -> Tensor:
    """Divergence of the normals in [-1, 1]: bumps positive, dents negative, flat zero."""
    padded = torch.nn.functional.pad(normal[:, :2], (1, 1, 1, 1), mode="replicate")
    across = padded[:, :1, 1:-1, 2:] - padded[:, :1, 1:-1, :-2]
    down = padded[:, 1:, 2:, 1:-1] - padded[:, 1:, :-2, 1:-1]
    return ((across - down) * (0.25 * gain)).clamp(-1.0, 1.0)


def _painted(srgb: Tensor, ao: Tensor, params: BakeParams) -> Tensor:
    """The artist's part: dirt, contrast, saturation and cast."""
    noise = torch.nn.functional.interpolate(
        params.dirt_noise, size=srgb.shape[-2:], mode="bilinear", align_corners=True
    )
    cover = params.dirt * noise * (1.3 - ao).clamp(0.0, 1.0)
    soil = srgb.new_tensor([0.20, 0.17, 0.13]).view(1, 3, 1, 1)
    srgb = srgb + cover * (soil - srgb)
    srgb = (srgb - 0.4) * params.contrast + 0.4
    grey = rgb_to_grayscale(srgb)
    painted: Tensor = (grey + params.saturation * (srgb - grey)) * params.cast
    return painted.clamp(0.0, 1.0)


def _gloss(roughness: Tensor, diffuse: Tensor, params: BakeParams) -> Tensor:
    """Old gloss: an uncalibrated ``1 - roughness``, or a constant, or the brightness of the diffuse."""
    from_roughness, from_constant, from_brightness = params.gloss_source.unsqueeze(2).unbind(dim=1)
    source = from_roughness * (1.0 - roughness) + from_brightness * rgb_to_grayscale(diffuse)
    encoded = source.pow(params.gloss_gamma) * params.gloss_gain + params.gloss_offset
    gloss: Tensor = (1.0 - from_constant) * encoded + from_constant * params.gloss_constant
    return gloss.clamp(0.0, 1.0)


def _draw_one(seed: int, spec: BakeSpec) -> dict[str, Tensor]:
    """Parameters of one sample without the batch axis; the order of the draws is part of the result."""
    generator = torch.Generator().manual_seed(mix(seed, "bake"))
    shares: Iterator[float] = iter(torch.rand(32, generator=generator, dtype=torch.float64).tolist())
    noise = torch.rand(1, DIRT_GRID, DIRT_GRID, generator=generator)

    def within(bounds: tuple[float, float]) -> float:
        return bounds[0] + next(shares) * (bounds[1] - bounds[0])

    azimuth, elevation = 2.0 * math.pi * next(shares), math.radians(within(spec.elevation_deg))
    flat = math.cos(elevation)
    dirt = within(spec.dirt) * (next(shares) < spec.dirt_share)
    vectors = {
        "direction": [flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)],
        "cast": [within(spec.cast) for _ in range(3)],
        "gloss_source": _gloss_source(next(shares), spec),
    }
    scalars = {
        "light": within(spec.light),
        "occlusion": within(spec.occlusion),
        "cavity": within(spec.cavity),
        "cavity_gain": math.exp(within((math.log(spec.cavity_gain[0]), math.log(spec.cavity_gain[1])))),
        "specular": within(spec.specular),
        "metal_darkening": within(spec.metal_darkening),
        "exposure": within(spec.exposure),
        "contrast": within(spec.contrast),
        "saturation": within(spec.saturation),
        "dirt": dirt,
        "gloss_gamma": within(spec.gloss_gamma),
        "gloss_gain": within(spec.gloss_gain),
        "gloss_offset": within(spec.gloss_offset),
        "gloss_constant": next(shares),
    }
    drawn = {name: torch.tensor(value).view(-1, 1, 1) for name, value in vectors.items()}
    drawn.update({name: torch.tensor(value).view(1, 1, 1) for name, value in scalars.items()})
    return drawn | {"dirt_noise": noise}


def _gloss_source(share: float, spec: BakeSpec) -> list[float]:
    """One-hot choice of roughness, constant, brightness."""
    constant = share < spec.gloss_constant_share
    brightness = not constant and share < spec.gloss_constant_share + spec.gloss_unrelated_share
    return [float(not (constant or brightness)), float(constant), float(brightness)]

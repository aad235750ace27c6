"""Bakes an old-style diffuse and gloss from a modern material, as a texture artist painted them in 2011.

Pairs of old and new textures are rare, modern materials are common. The diffuse of a bake has light,
cavities, highlights, contrast, a colour cast and dirt painted in. Light is computed in linear space; dirt,
contrast, saturation and cast are applied to sRGB values, as in a paint program.
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
"""Cells per side of the smooth noise of the dirt."""


@dataclass(frozen=True)
class BakeParams:
    """The drawn parameters of each sample; scalars have the shape ``(n, 1, 1, 1)`` to broadcast."""

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
    gloss_source: Float[Tensor, "n 3 1 1"]  # one-hot: roughness, constant, brightness
    gloss_constant: Float[Tensor, "n 1 1 1"]

    def to(self, device: torch.device | str) -> BakeParams:
        """Return a copy with every tensor on the device."""
        return BakeParams(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )


class Baked(NamedTuple):
    """A baked diffuse, sRGB in [0, 1], and a baked gloss in [0, 1], which is not calibrated."""

    diffuse: Float[Tensor, "n 3 h w"]
    gloss: Float[Tensor, "n 1 h w"]


def draw_params(seeds: Int64[Tensor, " n"], *, spec: BakeSpec) -> BakeParams:
    """Draw the parameters of each sample from its own seed, on the CPU."""
    drawn = [_draw_sample(seed, spec) for seed in seeds.tolist()]
    return BakeParams(
        **{f.name: torch.stack([params[f.name] for params in drawn]) for f in fields(BakeParams)}
    )


def bake(maps: Mapping[str, Float[Tensor, "n _ h w"]], *, params: BakeParams) -> Baked:
    """Bake an old-style diffuse and gloss.

    Orient the maps before the bake, so that the direction of the light does not depend on the orientation.

    Args:
        maps: Decoded maps, at least those of ``BAKE_INPUTS``.
        params: The drawn parameters, on the device of the maps.
    """
    lit = _shade(maps, params)
    diffuse = _paint(linear_rgb_to_rgb(lit), maps["ao"], params)
    return Baked(diffuse, _gloss(maps["roughness"], diffuse, params))


def _shade(maps: Mapping[str, Tensor], params: BakeParams) -> Tensor:
    """Return the linear light of the surface under one directional light and the sky, with its cavities."""
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
    """Return a broad Blinn lobe, scaled by the gloss, since painted highlights are blurred."""
    half = direction + direction.new_tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    half = half / _dot(half, half).sqrt()
    facing = _dot(normal, half).clamp_min(0.0)
    lobe = facing.square().square()
    return gloss * (lobe.square() * lobe)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar product over channels."""
    return (a * b).sum(dim=1, keepdim=True)


def _cavity(normal: Tensor, gain: Tensor) -> Tensor:
    """Return the divergence of the normals in [-1, 1]: positive for bumps, negative for dents, 0 if flat."""
    padded = torch.nn.functional.pad(normal[:, :2], (1, 1, 1, 1), mode="replicate")
    across = padded[:, :1, 1:-1, 2:] - padded[:, :1, 1:-1, :-2]
    down = padded[:, 1:, 2:, 1:-1] - padded[:, 1:, :-2, 1:-1]
    return ((across - down) * (0.25 * gain)).clamp(-1.0, 1.0)


def _paint(srgb: Tensor, ao: Tensor, params: BakeParams) -> Tensor:
    """Apply dirt, contrast, saturation and colour cast, as an artist would in a paint program."""
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
    """Return the gloss: an uncalibrated ``1 - roughness``, a constant, or the brightness of the diffuse."""
    from_roughness, from_constant, from_brightness = params.gloss_source.unsqueeze(2).unbind(dim=1)
    source = from_roughness * (1.0 - roughness) + from_brightness * rgb_to_grayscale(diffuse)
    encoded = source.pow(params.gloss_gamma) * params.gloss_gain + params.gloss_offset
    gloss: Tensor = (1.0 - from_constant) * encoded + from_constant * params.gloss_constant
    return gloss.clamp(0.0, 1.0)


def _draw_sample(seed: int, spec: BakeSpec) -> dict[str, Tensor]:
    """Draw the parameters of one sample, without the batch axis; the order of draws affects the result."""
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
    """Return a one-hot choice of roughness, constant or brightness."""
    constant = share < spec.gloss_constant_share
    brightness = not constant and share < spec.gloss_constant_share + spec.gloss_unrelated_share
    return [float(not (constant or brightness)), float(constant), float(brightness)]

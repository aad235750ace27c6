"""Six ways in which the light of an old texture differs from another's; applied to the input alone.

Pure functions of sRGB pictures in [0, 1]; parameters are ``(n, ., 1, 1)`` so that they broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.seeds import mix

Preset: TypeAlias = Literal["rev7", "v4"]

TINT_GAIN = (0.94, 1.06)
GAMMA = (0.85, 1.18)
GRAIN_SIGMA = (0.005, 0.025)
OCCLUSION_STRENGTH = (0.10, 0.25)
COLD_RED_GAIN = (0.90, 0.98)
COLD_BLUE_GAIN = (1.02, 1.10)
VIGNETTE_EDGE = (0.85, 0.95)


def photometric(
    diffuse: Float[Tensor, "n 3 h w"],
    *,
    ao: Float[Tensor, "n 1 h w"] | None,
    seeds: Sequence[int],
    preset: Preset,
) -> Float[Tensor, "n 3 h w"]:
    """Changes the light of each sample as its own seed says.

    Args:
        diffuse: Old textures.
        ao: Their occlusion; None leaves its tint out. Read by the preset ``v4`` only.
        seeds: One per sample.
        preset: ``rev7`` is light tint, gamma and grain; ``v4`` is occlusion tint, cold white balance
            and vignette.
    """
    shares = _shares(seeds, 4).to(diffuse.device)
    match preset:
        case "rev7":
            x = diffuse * _within(shares[:, :3], TINT_GAIN)
            x = x.clamp(0.0, 1.0).pow(_within(shares[:, 3:], GAMMA))
            x = x + _grain(x, seeds)
        case "v4":
            x = (
                diffuse
                if ao is None
                else occlusion_tint(diffuse, ao, _within(shares[:, :1], OCCLUSION_STRENGTH))
            )
            red, blue = _within(shares[:, 1:2], COLD_RED_GAIN), _within(shares[:, 2:3], COLD_BLUE_GAIN)
            x = x * torch.cat((red, torch.ones_like(red), blue), dim=1)
            x = vignette(x, edge=_within(shares[:, 3:], VIGNETTE_EDGE))
        case _:
            assert_never(preset)
    return x.clamp(0.0, 1.0)


def occlusion_tint(
    x: Float[Tensor, "n 3 h w"], ao: Float[Tensor, "n 1 h w"], strength: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Darkens what is occluded, by ``strength`` where nothing of the sky is seen."""
    return x * (1.0 - strength * (1.0 - ao))


def vignette(x: Float[Tensor, "n c h w"], *, edge: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c h w"]:
    """Darkens towards the border with the square of the distance; the corners get the gain ``edge``."""
    rows = torch.linspace(-1.0, 1.0, x.shape[-2], device=x.device).square().view(-1, 1)
    cols = torch.linspace(-1.0, 1.0, x.shape[-1], device=x.device).square().view(1, -1)
    return x * (1.0 - (1.0 - edge) * (0.5 * (rows + cols)))


def _grain(x: Tensor, seeds: Sequence[int]) -> Tensor:
    """Grey noise, drawn on the device: it is the largest part of the work."""
    sigma = _within(_shares(seeds, 1, purpose="grain strength"), GRAIN_SIGMA).to(x.device)
    generator = torch.Generator(device=x.device)
    noise = torch.empty((len(seeds), 1, *x.shape[-2:]), device=x.device)
    for plane, seed in zip(noise, seeds, strict=True):
        plane.normal_(generator=generator.manual_seed(mix(seed, "grain")))
    return sigma * noise


def _shares(seeds: Sequence[int], count: int, *, purpose: str = "photometric") -> Float[Tensor, "n k 1 1"]:
    """Uniform numbers in [0, 1), ``count`` for each seed."""
    drawn = [torch.rand(count, generator=torch.Generator().manual_seed(mix(seed, purpose))) for seed in seeds]
    return torch.stack(drawn).view(-1, count, 1, 1)


def _within(shares: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + shares * (bounds[1] - bounds[0])

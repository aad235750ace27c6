"""Six ways in which the light of an old texture differs from another's; applied to the input alone.

Pure functions of sRGB pictures in [0, 1], whose results may leave the range: ``photometric`` cuts them
at its end. Parameters are ``(n, ., 1, 1)`` so that they broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.data.augment.augmentspec import Preset
from pbrlib.seeds import mix

# A preset is a name for the ranges that it uses.
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
            x = light_tint(diffuse, gain=_within(shares[:, :3], TINT_GAIN))
            x = gamma(x, exponent=_within(shares[:, 3:], GAMMA))
            sigma = _within(_shares(seeds, 1, purpose="grain strength"), GRAIN_SIGMA).to(x.device)
            x = grain(x, noise=_noise(x, seeds), sigma=sigma)
        case "v4":
            x = diffuse
            if ao is not None:
                x = occlusion_tint(x, ao=ao, strength=_within(shares[:, :1], OCCLUSION_STRENGTH))
            red, blue = _within(shares[:, 1:2], COLD_RED_GAIN), _within(shares[:, 2:3], COLD_BLUE_GAIN)
            x = cold_white_balance(x, red=red, blue=blue)
            x = vignette(x, edge=_within(shares[:, 3:], VIGNETTE_EDGE))
        case _:
            assert_never(preset)
    return x.clamp(0.0, 1.0)


def occlusion_tint(
    x: Float[Tensor, "n 3 h w"], *, ao: Float[Tensor, "n 1 h w"], strength: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Darkens what is occluded, by ``strength`` where nothing of the sky is seen."""
    return x * (1.0 - strength * (1.0 - ao))


def cold_white_balance(
    x: Float[Tensor, "n 3 h w"], *, red: Float[Tensor, "n 1 1 1"], blue: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Multiplies red and blue by their gains: colder with a red gain below one and a blue one above."""
    return x * torch.cat((red, torch.ones_like(red), blue), dim=1)


def vignette(x: Float[Tensor, "n c h w"], *, edge: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c h w"]:
    """Darkens towards the border with the square of the distance; the corners get the gain ``edge``."""
    rows = torch.linspace(-1.0, 1.0, x.shape[-2], device=x.device).square().view(-1, 1)
    cols = torch.linspace(-1.0, 1.0, x.shape[-1], device=x.device).square().view(1, -1)
    return x * (1.0 - (1.0 - edge) * (0.5 * (rows + cols)))


def light_tint(x: Float[Tensor, "n 3 h w"], *, gain: Float[Tensor, "n 3 1 1"]) -> Float[Tensor, "n 3 h w"]:
    """Colours the light: each channel has its own gain."""
    return x * gain


def gamma(x: Float[Tensor, "n c h w"], *, exponent: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c h w"]:
    """Bends the middle tones: brighter with an exponent below one. Cuts its input to [0, 1]."""
    return x.clamp(0.0, 1.0).pow(exponent)


def grain(
    x: Float[Tensor, "n c h w"], *, noise: Float[Tensor, "n 1 h w"], sigma: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n c h w"]:
    """Adds grey noise of unit variance, scaled to the standard deviation ``sigma``."""
    return x + sigma * noise


def _noise(x: Tensor, seeds: Sequence[int]) -> Tensor:
    """Normal noise (n, 1, h, w), drawn on the device: it is the largest part of the work."""
    generator = torch.Generator(device=x.device)
    noise = torch.empty((len(seeds), 1, *x.shape[-2:]), device=x.device)
    for plane, seed in zip(noise, seeds, strict=True):
        plane.normal_(generator=generator.manual_seed(mix(seed, "grain")))
    return noise


def _shares(seeds: Sequence[int], count: int, *, purpose: str = "photometric") -> Float[Tensor, "n k 1 1"]:
    """Uniform numbers in [0, 1), ``count`` for each seed."""
    drawn = [torch.rand(count, generator=torch.Generator().manual_seed(mix(seed, purpose))) for seed in seeds]
    return torch.stack(drawn).view(-1, count, 1, 1)


def _within(shares: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + shares * (bounds[1] - bounds[0])

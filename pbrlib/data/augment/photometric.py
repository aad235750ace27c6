"""Six changes of the light in an old texture, applied to the diffuse only.

The functions take sRGB pictures in [0, 1]. Their results may be outside of the range; ``photometric`` clips
the final result. Parameters have the shape ``(n, ., 1, 1)``, so that they broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.data.augment.augmentspec import Preset
from pbrlib.seeds import mix

# The ranges of the parameters; each preset uses some of them.
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
    """Change the light of each sample, with parameters drawn from its seed.

    Args:
        diffuse: The diffuse maps.
        ao: Their ambient occlusion, which only the preset ``v4`` uses; None skips the occlusion tint.
        seeds: One seed per sample.
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
    """Darken occluded pixels, by the share ``strength`` if they are fully occluded."""
    return x * (1.0 - strength * (1.0 - ao))


def cold_white_balance(
    x: Float[Tensor, "n 3 h w"], *, red: Float[Tensor, "n 1 1 1"], blue: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Multiply red and blue by their gains; a red gain below 1 and a blue gain above 1 give colder light."""
    return x * torch.cat((red, torch.ones_like(red), blue), dim=1)


def vignette(x: Float[Tensor, "n c h w"], *, edge: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c h w"]:
    """Darken towards the border with the square of the distance; the corners get the gain ``edge``."""
    rows = torch.linspace(-1.0, 1.0, x.shape[-2], device=x.device).square().view(-1, 1)
    cols = torch.linspace(-1.0, 1.0, x.shape[-1], device=x.device).square().view(1, -1)
    return x * (1.0 - (1.0 - edge) * (0.5 * (rows + cols)))


def light_tint(x: Float[Tensor, "n 3 h w"], *, gain: Float[Tensor, "n 3 1 1"]) -> Float[Tensor, "n 3 h w"]:
    """Multiply each channel by its own gain, as coloured light does."""
    return x * gain


def gamma(x: Float[Tensor, "n c h w"], *, exponent: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c h w"]:
    """Apply a power curve to the input, clipped to [0, 1]; an exponent below 1 brightens the middle tones."""
    return x.clamp(0.0, 1.0).pow(exponent)


def grain(
    x: Float[Tensor, "n c h w"], *, noise: Float[Tensor, "n 1 h w"], sigma: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n c h w"]:
    """Add grey noise of unit variance, scaled to the standard deviation ``sigma``."""
    return x + sigma * noise


def _noise(x: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return normal noise (n, 1, h, w), drawn on the device because it is the largest part of the work."""
    generator = torch.Generator(device=x.device)
    noise = torch.empty((len(seeds), 1, *x.shape[-2:]), device=x.device)
    for plane, seed in zip(noise, seeds, strict=True):
        plane.normal_(generator=generator.manual_seed(mix(seed, "grain")))
    return noise


def _shares(seeds: Sequence[int], count: int, *, purpose: str = "photometric") -> Float[Tensor, "n k 1 1"]:
    """Return ``count`` uniform numbers in [0, 1) for each seed."""
    drawn = [torch.rand(count, generator=torch.Generator().manual_seed(mix(seed, purpose))) for seed in seeds]
    return torch.stack(drawn).view(-1, count, 1, 1)


def _within(shares: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + shares * (bounds[1] - bounds[0])

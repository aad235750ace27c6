"""Overlays that are painted over the diffuse of a sample: grain, dirt and a highlight.

These are pure functions of sRGB pictures in [0, 1]; their results are in the same range. Overlays darken or
whiten all channels equally, so that the hue does not change. Parameters have the shape ``(n, 1, 1, 1)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.seeds import mix

DIRT_OCTAVES = (4, 8, 16)
"""Cells per side of each layer of dirt; each layer has half the strength of the layer before."""

GRAIN_PATCHES = 4
"""Cells per side of the noise that limits grain to patches."""

SPRITE_RADIUS = (0.08, 0.25)
"""Radius of a highlight as a share of the shorter side."""


def darken(x: Float[Tensor, "n 3 h w"], *, cover: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Reduce the brightness of each pixel by the share ``cover``."""
    return x * (1.0 - cover)


def whiten(x: Float[Tensor, "n 3 h w"], *, cover: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Blend each pixel towards white by the share ``cover``."""
    return x + cover * (1.0 - x)


def perlin(angles: Float[Tensor, "n g g"], *, size: tuple[int, int]) -> Float[Tensor, "n 1 h w"]:
    """Return Perlin's gradient noise in [-1, 1]; it is 0 at the grid points (Perlin, Improving noise, 2002).

    Args:
        angles: Direction of the gradient at each grid point, in radians, for ``g - 1`` cells per side.
        size: Height and width of the picture.
    """
    cells = angles.shape[-1] - 1
    top, y = _cells(size[0], cells, angles.device)
    left, x = _cells(size[1], cells, angles.device)
    across, down = angles.cos(), angles.sin()

    def corner(dy: int, dx: int) -> Tensor:
        def at(gradient: Tensor) -> Tensor:
            return gradient.index_select(1, top + dy).index_select(2, left + dx)

        return at(across) * (x - dx) + at(down) * (y - dy).view(-1, 1)

    along, below = _fade(x), _fade(y).view(-1, 1)
    upper = torch.lerp(corner(0, 0), corner(0, 1), along)
    lower = torch.lerp(corner(1, 0), corner(1, 1), along)
    # With unit gradients the noise is at most the square root of one half, in the middle of a cell.
    return (torch.lerp(upper, lower, below) * math.sqrt(2.0)).clamp(-1.0, 1.0).unsqueeze(1)


def dirt_cover(
    seeds: Sequence[int], *, strength: Float[Tensor, "n 1 1 1"], size: tuple[int, int]
) -> Float[Tensor, "n 1 h w"]:
    """Return the cover of patches of dirt, at most ``strength``, for each seed."""
    noise: Tensor = torch.zeros(())
    for octave, cells in enumerate(DIRT_OCTAVES):
        noise = noise + perlin(_angles(seeds, cells, "dirt").to(strength.device), size=size) / 2.0**octave
    return strength * _smooth(noise)


def grain_cover(
    seeds: Sequence[int], *, strength: Float[Tensor, "n 1 1 1"], size: tuple[int, int]
) -> Float[Tensor, "n 1 h w"]:
    """Return the cover of patches of fine grain, at most ``strength``, for each seed.

    The noise is drawn on the device of ``strength``.
    """
    device = strength.device
    generator = torch.Generator(device=device)
    noise = torch.empty((len(seeds), 1, *size), device=device)
    for plane, seed in zip(noise, seeds, strict=True):
        plane.uniform_(generator=generator.manual_seed(mix(seed, "grain mask")))
    return strength * noise * _smooth(perlin(_angles(seeds, GRAIN_PATCHES, "grain").to(device), size=size))


def sprite_cover(
    seeds: Sequence[int], *, strength: Float[Tensor, "n 1 1 1"], size: tuple[int, int]
) -> Float[Tensor, "n 1 h w"]:
    """Return the cover of a soft round highlight for each seed: ``strength`` in its centre, 0 outside."""
    drawn = torch.stack([torch.rand(3, generator=_generator(seed, "sprite")) for seed in seeds])
    y, x, share = drawn.to(strength.device).view(-1, 3, 1, 1, 1).unbind(dim=1)
    radius = (SPRITE_RADIUS[0] + share * (SPRITE_RADIUS[1] - SPRITE_RADIUS[0])) * min(size)
    down = torch.arange(size[0], device=strength.device).view(-1, 1) - y * (size[0] - 1)
    across = torch.arange(size[1], device=strength.device) - x * (size[1] - 1)
    inside = (1.0 - (down.square() + across.square()) / radius.square()).clamp_min(0.0)
    return strength * inside.square()


def _cells(size: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return for each pixel of an axis the number of its cell and its position in the cell, in [0, 1)."""
    position = (torch.arange(size, device=device) + 0.5) * (cells / size)
    number = position.floor().clamp_max(cells - 1)
    return number.long(), position - number


def _fade(t: Tensor) -> Tensor:
    return t * t * t * (t * (t * 6.0 - 15.0) + 10.0)


def _smooth(noise: Tensor) -> Tensor:
    """Map noise to [0, 1] by a smoothstep: 0 for negative noise, 1 from 0.7 on."""
    t = (noise / 0.7).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _angles(seeds: Sequence[int], cells: int, purpose: str) -> Float[Tensor, "n g g"]:
    drawn = [torch.rand(cells + 1, cells + 1, generator=_generator(seed, purpose, cells)) for seed in seeds]
    return torch.stack(drawn) * (2.0 * math.pi)


def _generator(seed: int, *purpose: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(mix(seed, *purpose))

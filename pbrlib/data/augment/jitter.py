"""Colour jitter: a material in another hue and saturation, its albedo and its old texture alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from kornia.color import hsv_to_rgb, rgb_to_hsv
from torch import Tensor

from pbrlib.data.augment.augmentspec import ColourJitterSpec
from pbrlib.maps import ALBEDO, DIFFUSE
from pbrlib.seeds import uniform


def jittered(
    maps: dict[str, Tensor], *, seeds: Mapping[int, int], bounds: Sequence[ColourJitterSpec]
) -> dict[str, Tensor]:
    """The decoded maps of a batch, diffuse and albedo of some samples recoloured by the same figures.

    Args:
        maps: By name.
        seeds: The seed of each sample to change, by its position.
        bounds: The largest changes of each of them, since some materials bear less than others.
    """
    turn, factor = draw_jitter(list(seeds.values()), bounds=bounds)
    changed = {}
    for name in (DIFFUSE.name, ALBEDO.name):
        if name in maps:
            x = maps[name]
            index = torch.tensor(list(seeds)).to(x.device)
            own = recoloured(x.index_select(0, index), turn=turn.to(x.device), saturation=factor.to(x.device))
            changed[name] = x.index_copy(0, index, own)
    return maps | changed


def draw_jitter(
    seeds: Sequence[int], *, bounds: Sequence[ColourJitterSpec]
) -> tuple[Float[Tensor, "n 1 1 1"], Float[Tensor, "n 1 1 1"]]:
    """Turn and saturation factor of each sample, uniform within its bounds, from its seed alone."""
    pairs = list(zip(seeds, bounds, strict=True))
    turns = [bound.hue * _either_way(seed, "hue") for seed, bound in pairs]
    factors = [1.0 + bound.saturation * _either_way(seed, "saturation") for seed, bound in pairs]
    return torch.tensor(turns).view(-1, 1, 1, 1), torch.tensor(factors).view(-1, 1, 1, 1)


def recoloured(
    x: Float[Tensor, "n 3 h w"], *, turn: Float[Tensor, "n 1 1 1"], saturation: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Turns the hue and multiplies the saturation of sRGB colours in [0, 1]; the HSV value stays.

    A grey has no hue and stays what it is.

    Args:
        x: Colours.
        turn: Share of the colour circle: a third takes red to green.
        saturation: Factor of the HSV saturation, whose product is cut at 1.
    """
    hue, amount, value = rgb_to_hsv(x).unsqueeze(2).unbind(dim=1)
    hue = torch.remainder(hue + 2.0 * math.pi * turn, 2.0 * math.pi)
    colours: Tensor = hsv_to_rgb(torch.cat((hue, (amount * saturation).clamp_max(1.0), value), dim=1))
    return colours


def _either_way(seed: int, purpose: str) -> float:
    return 2.0 * uniform(seed, "colour jitter", purpose) - 1.0

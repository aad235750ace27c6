"""Colour jitter: changes hue and saturation of the albedo and the diffuse of a material equally."""

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


def jitter_colours(
    maps: dict[str, Tensor], *, seeds: Mapping[int, int], bounds: Sequence[ColourJitterSpec]
) -> dict[str, Tensor]:
    """Change the colours of some samples of a batch of decoded maps, and return the new maps.

    Diffuse and albedo of a sample get the same change.

    Args:
        maps: The maps by name.
        seeds: The seed of each sample to change, by its position in the batch.
        bounds: The maximum changes of each of these samples, which depend on its material class.
    """
    turn, factor = draw_jitter(list(seeds.values()), bounds=bounds)
    changed = {}
    for name in (DIFFUSE.name, ALBEDO.name):
        if name in maps:
            x = maps[name]
            index = torch.tensor(list(seeds)).to(x.device)
            own = shift_colours(
                x.index_select(0, index), turn=turn.to(x.device), saturation=factor.to(x.device)
            )
            changed[name] = x.index_copy(0, index, own)
    return maps | changed


def draw_jitter(
    seeds: Sequence[int], *, bounds: Sequence[ColourJitterSpec]
) -> tuple[Float[Tensor, "n 1 1 1"], Float[Tensor, "n 1 1 1"]]:
    """Draw the hue rotation and saturation factor of each sample from its seed, uniformly within bounds."""
    pairs = list(zip(seeds, bounds, strict=True))
    turns = [bound.hue * _signed_uniform(seed, "hue") for seed, bound in pairs]
    factors = [1.0 + bound.saturation * _signed_uniform(seed, "saturation") for seed, bound in pairs]
    return torch.tensor(turns).view(-1, 1, 1, 1), torch.tensor(factors).view(-1, 1, 1, 1)


def shift_colours(
    x: Float[Tensor, "n 3 h w"], *, turn: Float[Tensor, "n 1 1 1"], saturation: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 h w"]:
    """Rotate the hue and multiply the saturation of sRGB colours in [0, 1]; the HSV value does not change.

    Greys have no hue and do not change.

    Args:
        x: sRGB colours in [0, 1].
        turn: Rotation as a share of the colour circle; a third turns red into green.
        saturation: Factor of the HSV saturation; the product is clipped to 1.
    """
    hue, amount, value = rgb_to_hsv(x).unsqueeze(2).unbind(dim=1)
    hue = torch.remainder(hue + 2.0 * math.pi * turn, 2.0 * math.pi)
    colours: Tensor = hsv_to_rgb(torch.cat((hue, (amount * saturation).clamp_max(1.0), value), dim=1))
    return colours


def _signed_uniform(seed: int, purpose: str) -> float:
    """Return a number in [-1, 1)."""
    return 2.0 * uniform(seed, "colour jitter", purpose) - 1.0

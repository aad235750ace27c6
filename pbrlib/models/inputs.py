"""What networks read, put together from maps in the order of their channels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pbrlib.models.roles import MapNetwork


def colour_input(
    colour: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 6 h w"]:
    """What the segmentation and the albedo network read: sRGB colour in [0, 1] and an OpenGL unit normal."""
    return torch.cat([colour, normal], dim=1)


def gloss_input(gloss: Float[Tensor, "n 1 h w"], *, shown: Bool[Tensor, " n"]) -> Float[Tensor, "n 2 h w"]:
    """The old gloss in [0, 1] and a flag that is 1 where a sample shows one; both 0 where it does not."""
    flag = shown.to(gloss.device, gloss.dtype)[:, None, None, None]
    return torch.cat([gloss * flag, flag.expand_as(gloss)], dim=1)


def map_input(declared: MapNetwork, given: Mapping[str, Tensor | None]) -> Float[Tensor, "n c h w"]:
    """What a map network reads, in the order of its channels.

    ``given`` holds by the names of ``INPUTS`` at least what the network reads: ``colour`` (N, 3, H, W) sRGB
    in [0, 1], for roughness and metallic the predicted albedo; ``normal`` (N, 3, H, W) OpenGL; ``classes``
    (N, K, H, W) predicted probabilities; ``relief`` (N, 2, H, W) in [-1, 1]; ``gloss`` as `gloss_input`
    gives it.
    """
    parts = [given[name] for name in declared.inputs]
    assert all(part is not None for part in parts), f"{declared.role} reads {', '.join(declared.inputs)}"
    return torch.cat([part for part in parts if part is not None], dim=1)

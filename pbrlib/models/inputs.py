"""Builds the input tensors of networks from maps, in the order of the declared channels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pbrlib.models.roles import MapDeclaration


def colour_input(
    colour: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 6 h w"]:
    """Stack the input of the segmentation and albedo networks: sRGB colour in [0, 1], OpenGL unit normal."""
    return torch.cat([colour, normal], dim=1)


def gloss_input(gloss: Float[Tensor, "n 1 h w"], *, shown: Bool[Tensor, " n"]) -> Float[Tensor, "n 2 h w"]:
    """Stack the old gloss in [0, 1] and a flag; both are 0 for a sample that does not show its gloss."""
    flag = shown.to(gloss.device, gloss.dtype)[:, None, None, None]
    return torch.cat([gloss * flag, flag.expand_as(gloss)], dim=1)


def map_input(declared: MapDeclaration, given: Mapping[str, Tensor | None]) -> Float[Tensor, "n c h w"]:
    """Stack the inputs of a map network in the order of its declaration.

    ``given`` has at least the network's inputs, by the names in ``INPUT_CHANNELS``: ``colour`` (N, 3, H, W)
    sRGB in [0, 1], for roughness and metallic the predicted albedo; ``normal`` (N, 3, H, W) OpenGL;
    ``classes`` (N, K, H, W) predicted probabilities; ``relief`` (N, 2, H, W) in [-1, 1]; ``gloss``
    (N, 2, H, W) from `gloss_input`.
    """
    parts = [given[name] for name in declared.inputs]
    assert all(part is not None for part in parts), f"{declared.role} reads {', '.join(declared.inputs)}"
    return torch.cat([part for part in parts if part is not None], dim=1)

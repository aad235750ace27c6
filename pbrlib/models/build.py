"""Builds networks from their declarations; the only module that knows every kind of network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias, assert_never

import torch
from torch import nn

from pbrlib.models.modelspec import SegformerSpec, SmpUNetSpec, UNetSpec
from pbrlib.models.roles import NetworkDeclaration
from pbrlib.models.segformer import Segformer
from pbrlib.models.unet import UNet

if TYPE_CHECKING:
    from pbrlib.models.smp_unet import SmpUNet

AnyNetwork: TypeAlias = "Segformer | UNet | SmpUNet"
"""The network classes as ``nn.Module``; `pbrlib.models.network.Network` is their common protocol."""


def build_network(declared: NetworkDeclaration) -> AnyNetwork:
    """Build a declared network with initial or pretrained weights.

    Raises:
        CheckpointError: The pretrained weights cannot be read.
    """
    spec, out_channels = declared.model, sum(declared.outputs.values())
    match spec:
        case SegformerSpec():
            return Segformer(spec, num_classes=out_channels)
        case UNetSpec():
            return UNet(
                spec,
                in_channels=len(declared.channels),
                out_channels=out_channels,
                cond_channels=declared.condition_channels,
            )
        case SmpUNetSpec():
            from pbrlib.models.smp_unet import SmpUNet  # importing torchvision and timm takes a second

            return SmpUNet(
                spec,
                in_channels=len(declared.channels),
                out_channels=out_channels,
                cond_channels=declared.condition_channels,
            )
        case _:
            assert_never(spec)


def build_on_meta(declared: NetworkDeclaration) -> AnyNetwork:
    """Build a declared network on the meta device: names and shapes only, no weights are read."""
    with torch.device("meta"):
        return build_network(declared)


def init_head_bias(network: AnyNetwork, p: float) -> None:
    """Set the head's bias to ``log(p / (1 - p))``, so that every output starts at the probability ``p``."""
    if not 0.0 < p < 1.0:
        raise ValueError(f"init_head_bias: got p = {p}; expected a probability between 0 and 1.")
    for name in network.head_names:
        if name.endswith(".bias"):
            nn.init.constant_(network.get_parameter(name), math.log(p / (1.0 - p)))

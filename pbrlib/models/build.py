"""From the declaration of a network to the network: the one place that knows every kind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias, assert_never

import torch
from torch import nn

from pbrlib.models.modelspec import SegformerSpec, SmpUNetSpec, UNetSpec
from pbrlib.models.roles import Declared
from pbrlib.models.segformer import Segformer
from pbrlib.models.unet import UNet

if TYPE_CHECKING:
    from pbrlib.models.smp_unet import SmpUNet

AnyNetwork: TypeAlias = "Segformer | UNet | SmpUNet"
"""The kinds as torch sees them; `pbrlib.models.network.Network` is what is asked of each."""


def build_network(declared: Declared) -> AnyNetwork:
    """A declared network with fresh weights.

    Raises:
        CheckpointError: Its pretrained weights cannot be read.
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
            from pbrlib.models.smp_unet import SmpUNet  # a second of torchvision and timm in every worker

            return SmpUNet(
                spec,
                in_channels=len(declared.channels),
                out_channels=out_channels,
                cond_channels=declared.condition_channels,
            )
        case _:
            assert_never(spec)


def network_on_meta(declared: Declared) -> AnyNetwork:
    """A declared network without memory: names and shapes of its parameters; no weights are read."""
    with torch.device("meta"):
        return build_network(declared)


def init_head_bias(network: AnyNetwork, p: float) -> None:
    """Start every output at the probability ``p`` in (0, 1): the last bias is ``log(p / (1 - p))``."""
    if not 0.0 < p < 1.0:
        raise ValueError(f"a starting probability lies between 0 and 1, not at {p}")
    for name in network.head_names:
        if name.endswith(".bias"):
            nn.init.constant_(network.get_parameter(name), math.log(p / (1.0 - p)))

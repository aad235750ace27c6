"""ResNet encoders of segmentation-models-pytorch, for weights pretrained on photographs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from pickle import UnpicklingError  # raised by torch.load; weights_only=True executes no pickled code
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pbrlib.errors import CheckpointError
from pbrlib.models.blocks import IMAGENET_MEAN, IMAGENET_STD, DoubleConv, adapt_input_channels
from pbrlib.models.modelspec import UNetSpec

RGB_CHANNELS = len(IMAGENET_MEAN)
"""Number of input channels that have pretrained weights: colour, or the normal if there is no colour."""


class ResNetEncoder(nn.Module):
    """A U-Net encoder: stage 0 is a `DoubleConv` at full resolution, stage k a ResNet stage at ``1 / 2**k``.

    The first three channels are normalised with ImageNet's statistics. The ResNet downsamples by strides and
    is not anti-aliased, unlike the recipe's encoder.

    Args:
        in_channels: Channels of the input, at least three.
        spec: Names the ResNet and its weights. On the meta device no weights are read.

    Raises:
        CheckpointError: ``spec.pretrained`` cannot be read, or has another architecture.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, in_channels: int, spec: UNetSpec) -> None:
        # Imported here: torchvision and torch's compiler take two seconds, and only this encoder needs them.
        # The library creates tensors at import time, which must not be on the meta device.
        with torch.device("cpu"):
            from segmentation_models_pytorch.encoders import get_encoder

        super().__init__()
        assert spec.encoder is not None
        trunk = get_encoder(spec.encoder, in_channels=RGB_CHANNELS, depth=spec.depth, weights=None)
        adapt_trunk(trunk, in_channels=in_channels, pretrained=spec.pretrained)
        stages = islice(trunk_stages(trunk), spec.depth)
        self.widths = [spec.width, *trunk.out_channels[1:]]
        self.stages = nn.ModuleList(
            [DoubleConv(in_channels, spec.width, norm_groups=spec.norm_groups), *stages]
        )
        for name, values in zip(("mean", "std"), input_normalisation(in_channels), strict=True):
            self.register_buffer(name, values, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every level, the finest first."""
        features = [self.stages[0](x)]
        deep = (x - self.mean) / self.std
        for stage in self.stages[1:]:
            deep = stage(deep)
            features.append(deep)
        return features


def adapt_trunk(trunk: Any, *, in_channels: int, pretrained: str | None) -> None:
    """Load pretrained weights into a three-channel ResNet and add freshly initialised input channels.

    Args:
        trunk: An encoder of `segmentation_models_pytorch`. On the meta device no weights are read.
        in_channels: Channels of the input, at least three.
        pretrained: A local file of torchvision's weights; None or ``none`` loads nothing.

    Raises:
        CheckpointError: The file cannot be read, or has another architecture.
    """
    if pretrained not in (None, "none") and not trunk.conv1.weight.is_meta:
        _load(trunk, Path(str(pretrained)))
    channels = [*range(RGB_CHANNELS), *[None] * (in_channels - RGB_CHANNELS)]
    trunk.conv1.weight = nn.Parameter(adapt_input_channels(trunk.conv1.weight.detach(), channels))
    trunk.conv1.in_channels = in_channels


def trunk_stages(trunk: Any) -> tuple[nn.Module, ...]:
    """Split a ResNet into its five stages, each of which halves the resolution."""
    stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu)
    first = nn.Sequential(trunk.maxpool, trunk.layer1)
    return stem, first, trunk.layer2, trunk.layer3, trunk.layer4


def input_normalisation(in_channels: int) -> tuple[Float[Tensor, "1 c 1 1"], Float[Tensor, "1 c 1 1"]]:
    """Return mean and standard deviation per input channel: ImageNet's for the first three, then 0 and 1."""
    others = in_channels - RGB_CHANNELS
    mean = torch.tensor((*IMAGENET_MEAN, *(0.0,) * others)).view(1, -1, 1, 1)
    std = torch.tensor((*IMAGENET_STD, *(1.0,) * others)).view(1, -1, 1, 1)
    return mean, std


def _load(trunk: nn.Module, path: Path) -> None:
    """Load weights in torchvision's layout; the classifier is left out, all other tensors must match."""
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, SafetensorError, UnpicklingError) as error:
        raise CheckpointError(
            f"pretrained: {path} cannot be read ({error}). "
            "Set pretrained to a local file of torchvision's ResNet weights, or to none."
        ) from error
    wanted = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    try:
        trunk.load_state_dict(wanted)
    except RuntimeError as error:
        lacking = [name for name in trunk.state_dict() if name not in wanted]
        which = f"{len(lacking)} tensors are missing, {lacking[0]} first" if lacking else "its tensors differ"
        raise CheckpointError(
            f"pretrained: {path} holds another network ({which}). "
            "Use weights of the same encoder, or set pretrained: none."
        ) from error

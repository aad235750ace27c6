"""The U-Net of the map networks: GroupNorm, anti-aliased downsampling, FiLM at the bottleneck."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.models.blocks import ConvNormAct, DoubleConv, blur_downsample, resize
from pbrlib.models.film import FiLM
from pbrlib.models.modelspec import UNetSpec
from pbrlib.models.network import NetworkOutput, check_sides, exact_logits

if TYPE_CHECKING:
    from pbrlib.models.resnet import ResNetEncoder


class _Encoder(nn.Module):
    """The encoder: one double convolution per level; level k works at ``1 / 2**k`` of the resolution."""

    def __init__(self, in_channels: int, widths: list[int], *, norm_groups: int) -> None:
        super().__init__()
        self.widths = widths
        self.stages = nn.ModuleList(
            DoubleConv(before, width, norm_groups=norm_groups)
            for before, width in pairwise([in_channels, *widths])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stages[0](x)]
        for stage in self.stages[1:]:
            features.append(stage(blur_downsample(features[-1])))
        return features


class _DecoderStage(nn.Module):
    """Upsamples by 2 and merges the refined skip connection of that level."""

    def __init__(self, deep_width: int, width: int, *, norm_groups: int) -> None:
        super().__init__()
        self.refine = ConvNormAct(width, width, kernel_size=1, norm_groups=norm_groups)
        self.merge = DoubleConv(deep_width + width, width, norm_groups=norm_groups)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        upsampled = resize(deep, (skip.shape[2], skip.shape[3]))
        merged: Tensor = self.merge(torch.cat((upsampled, self.refine(skip)), dim=1))
        return merged


class _Decoder(nn.Module):
    """The decoder: stage k returns the features of level k; the deepest stage runs first."""

    def __init__(self, widths: list[int], *, norm_groups: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _DecoderStage(deep, width, norm_groups=norm_groups) for width, deep in pairwise(widths)
        )

    def forward(self, deep: Tensor, skips: list[Tensor]) -> Tensor:
        for stage, skip in zip(reversed(self.stages), reversed(skips), strict=True):
            deep = stage(deep, skip)
        return deep


def _encoder(spec: UNetSpec, in_channels: int) -> _Encoder | ResNetEncoder:
    if spec.encoder is not None:
        # Imported here: segmentation-models-pytorch takes a second to import, in every worker.
        from pbrlib.models.resnet import ResNetEncoder

        return ResNetEncoder(in_channels, spec)
    widths = [spec.width * 2**level for level in range(spec.depth + 1)]
    return _Encoder(in_channels, widths, norm_groups=spec.norm_groups)


class UNet(nn.Module):
    """Maps an image to logits of the same size, conditioned on features of another network.

    Args:
        spec: Sizes.
        in_channels: Channels of the input.
        out_channels: Channels of the logits.
        cond_channels: Channels of the conditioning; None builds a network without FiLM.
    """

    def __init__(
        self, spec: UNetSpec, *, in_channels: int, out_channels: int, cond_channels: int | None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = _encoder(spec, in_channels)
        widths = self.encoder.widths
        self.decoder = _Decoder(widths, norm_groups=spec.norm_groups)
        self.film = (
            None if cond_channels is None else FiLM(widths[-1], cond_channels, dropout=spec.film_dropout)
        )
        self.head = nn.Conv2d(spec.width, out_channels, 1)

    @property
    def stride(self) -> int:
        """The sides of an input are multiples of this."""
        return int(2**self.spec.depth)

    @property
    def stem_names(self) -> tuple[str, ...]:
        """Names of the convolution weights that read the input channels."""
        own = ("encoder.stages.0.first.conv.weight", "encoder.stages.0.shortcut.weight")
        return own if self.spec.encoder is None else (*own, "encoder.stages.1.0.weight")

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the parameters of the head, which computes the logits."""
        return ("head.weight", "head.bias")

    @property
    def label(self) -> str:
        """The architecture with its width and depth."""
        return f"{self.spec.kind} {self.spec.width} x {self.spec.depth}"

    @property
    def feature_channels(self) -> int:
        """Channels of the deepest level."""
        return self.encoder.widths[-1]

    def forward(
        self,
        x: Float[Tensor, "n c_in h w"],
        cond: Float[Tensor, "n k h_cond w_cond"] | None = None,
        *,
        cond_keep: Float[Tensor, " n"] | None = None,
    ) -> NetworkOutput:
        """Return logits at the size of the input, and the features of the deepest level before FiLM.

        Args:
            x: Input maps, sides multiples of ``stride``.
            cond: Conditioning features; None is equal to a ``cond_keep`` of zeros.
            cond_keep: 1 for a sample that sees its conditioning; None draws it in training mode (`FiLM`).

        Raises:
            ValueError: Sides are no multiples of the stride, or conditioning without FiLM.
        """
        check_sides(x, stride=self.stride)
        *skips, features = self.encoder(x)
        deep = features
        if self.film is not None:
            deep = self.film(deep, cond, keep=cond_keep)
        elif cond is not None:
            raise ValueError("cond: got features; expected None, as this U-Net has cond_channels=None.")
        return NetworkOutput(logits=exact_logits(self.head, self.decoder(deep, skips)), features=features)

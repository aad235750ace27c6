"""The U-Net of segmentation-models-pytorch over a ResNet, with FiLM at its bottleneck."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.models.film import FiLM
from pbrlib.models.modelspec import SmpUNetSpec
from pbrlib.models.network import Answer, check_sides, exact_logits
from pbrlib.models.resnet import PICTURE, adapt_trunk, picture_scale, trunk_stages


class _Encoder(nn.Module):
    """Stage k gives the features at ``1 / 2**(k + 1)`` of the resolution."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Any, *, in_channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(trunk_stages(trunk))
        for name, values in zip(("mean", "std"), picture_scale(in_channels), strict=True):
            self.register_buffer(name, values, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        deep = (x - self.mean) / self.std
        features: list[Tensor] = []
        for stage in self.stages:
            deep = stage(deep)
            features.append(deep)
        return features


class SmpUNet(nn.Module):
    """A picture to a picture of the same size, conditioned on features of another network.

    Encoder, decoder and head are the library's, five halvings and batch norms; conditioning is the same FiLM
    at the bottleneck as in `pbrlib.models.unet.UNet`.

    Args:
        spec: Names the ResNet and its weights. On the meta device no weights are read.
        in_channels: Channels of the input, at least three.
        out_channels: Channels of the logits.
        cond_channels: Channels of the conditioning; None builds a net without FiLM.

    Raises:
        CheckpointError: ``spec.pretrained`` cannot be read, or is another architecture.
    """

    def __init__(
        self, spec: SmpUNetSpec, *, in_channels: int, out_channels: int, cond_channels: int | None
    ) -> None:
        # It takes a second to import, also in processes that only launch or follow a fit.
        from segmentation_models_pytorch import Unet

        super().__init__()
        self.spec = spec
        donor = Unet(spec.encoder, encoder_weights=None, in_channels=PICTURE, classes=out_channels)
        adapt_trunk(donor.encoder, in_channels=in_channels, pretrained=spec.pretrained)
        self._feature_channels = int(donor.encoder.out_channels[-1])
        self.encoder = _Encoder(donor.encoder, in_channels=in_channels)
        self.decoder = donor.decoder
        self.film = (
            None
            if cond_channels is None
            else FiLM(self._feature_channels, cond_channels, dropout=spec.film_dropout)
        )
        self.head: nn.Conv2d = donor.segmentation_head[0]

    @property
    def stride(self) -> int:
        """The sides of an input are multiples of this."""
        return 32

    @property
    def stem_names(self) -> tuple[str, ...]:
        """The weights that read the input, channel by channel."""
        return ("encoder.stages.0.0.weight",)

    @property
    def head_names(self) -> tuple[str, ...]:
        """The parameters that give the logits."""
        return ("head.weight", "head.bias")

    @property
    def label(self) -> str:
        """The library's name and the ResNet's."""
        return f"{self.spec.kind} {self.spec.encoder}"

    @property
    def feature_channels(self) -> int:
        """Channels of the last encoder stage."""
        return self._feature_channels

    def forward(
        self, x: Float[Tensor, "n c_in h w"], cond: Float[Tensor, "n k h_cond w_cond"] | None = None
    ) -> Answer:
        """Logits at the size of the input, and the features of the last encoder stage before FiLM.

        Args:
            x: Input maps, sides multiples of 32.
            cond: Conditioning features; None shows none to any sample.

        Raises:
            ValueError: Sides off the stride, or conditioning for a net without FiLM.
        """
        check_sides(x, stride=self.stride)
        *skips, features = self.encoder(x)
        deep = features
        if self.film is not None:
            deep = self.film(deep, cond, keep=None)
        elif cond is not None:
            raise ValueError("conditioning given to a U-Net built with cond_channels=None")
        return Answer(logits=exact_logits(self.head, self.decoder([x, *skips, deep])), features=features)

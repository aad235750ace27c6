"""The U-Net of segmentation-models-pytorch with a ResNet encoder and FiLM at the bottleneck."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.models.film import FiLM
from pbrlib.models.modelspec import SmpUNetSpec
from pbrlib.models.network import NetworkOutput, check_sides, exact_logits
from pbrlib.models.resnet import RGB_CHANNELS, adapt_trunk, input_normalisation, trunk_stages


class _Encoder(nn.Module):
    """A ResNet encoder; stage k returns features at ``1 / 2**(k + 1)`` of the resolution."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Any, *, in_channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(trunk_stages(trunk))
        for name, values in zip(("mean", "std"), input_normalisation(in_channels), strict=True):
            self.register_buffer(name, values, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        deep = (x - self.mean) / self.std
        features: list[Tensor] = []
        for stage in self.stages:
            deep = stage(deep)
            features.append(deep)
        return features


class SmpUNet(nn.Module):
    """Maps an image to logits of the same size, conditioned on features of another network.

    Encoder, decoder and head are the library's: five downsamplings and batch norms. The bottleneck has the
    same FiLM conditioning as `pbrlib.models.unet.UNet`.

    Args:
        spec: Names the ResNet and its weights. On the meta device no weights are read.
        in_channels: Channels of the input, at least three.
        out_channels: Channels of the logits.
        cond_channels: Channels of the conditioning; None builds a network without FiLM.

    Raises:
        CheckpointError: ``spec.pretrained`` cannot be read, or has another architecture.
    """

    def __init__(
        self, spec: SmpUNetSpec, *, in_channels: int, out_channels: int, cond_channels: int | None
    ) -> None:
        # Imported here: the import takes a second, also in processes that only launch or watch a run.
        from segmentation_models_pytorch import Unet

        super().__init__()
        self.spec = spec
        donor = Unet(spec.encoder, encoder_weights=None, in_channels=RGB_CHANNELS, classes=out_channels)
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
        """Names of the convolution weights that read the input channels."""
        return ("encoder.stages.0.0.weight",)

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the parameters of the head, which computes the logits."""
        return ("head.weight", "head.bias")

    @property
    def label(self) -> str:
        """The architecture and the name of the ResNet."""
        return f"{self.spec.kind} {self.spec.encoder}"

    @property
    def feature_channels(self) -> int:
        """Channels of the last encoder stage."""
        return self._feature_channels

    def forward(
        self, x: Float[Tensor, "n c_in h w"], cond: Float[Tensor, "n k h_cond w_cond"] | None = None
    ) -> NetworkOutput:
        """Return logits at the size of the input, and the features of the last encoder stage before FiLM.

        Args:
            x: Input maps, sides multiples of 32.
            cond: Conditioning features; None drops the conditioning of all samples.

        Raises:
            ValueError: Sides are no multiples of the stride, or conditioning without FiLM.
        """
        check_sides(x, stride=self.stride)
        *skips, features = self.encoder(x)
        deep = features
        if self.film is not None:
            deep = self.film(deep, cond, keep=None)
        elif cond is not None:
            raise ValueError("cond: got features; expected None, as this U-Net has cond_channels=None.")
        return NetworkOutput(
            logits=exact_logits(self.head, self.decoder([x, *skips, deep])), features=features
        )

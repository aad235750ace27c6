"""Specs of the network architectures: sizes and initial weights. This module does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from pbrlib.spec import Spec

RESNET_DEPTH = 5
"""Number of times that a ResNet halves the resolution."""

ResNet: TypeAlias = Literal["resnet18", "resnet34", "resnet50"]

Size: TypeAlias = Annotated[int, Field(ge=1, le=16384)]
"""A number of channels; the largest published network has 1024."""

FourSizes: TypeAlias = tuple[Size, Size, Size, Size]
Blocks: TypeAlias = Annotated[int, Field(ge=1, le=128)]
FourDepths: TypeAlias = tuple[Blocks, Blocks, Blocks, Blocks]


class UNetSpec(Spec):
    """Spec of the FiLM U-Net: ``depth`` downsamplings by 2, ``width * 2**level`` channels at each level.

    Attributes:
        width: Channels at full resolution.
        depth: Number of downsamplings; the sides of an input are multiples of ``2**depth``.
        norm_groups: Groups of every GroupNorm; divides ``width``.
        film_dropout: Share of training samples without conditioning, so that the network also works without.
        encoder: A ResNet that replaces the recipe's encoder below full resolution. The ResNet determines the
            channels of these levels and allows a depth of at most 5.
        pretrained: Weights of the ResNet: ``none``, or a local file of torchvision's weights.
    """

    kind: Literal["unet"] = "unet"
    width: Size = 96
    depth: Annotated[int, Field(ge=1, le=6)] = 4
    norm_groups: PositiveInt = 8
    film_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    encoder: ResNet | None = None
    pretrained: str | None = None

    @model_validator(mode="after")
    def _check_resnet(self) -> Self:
        if self.encoder is None and self.pretrained is not None:
            raise ValueError(
                "pretrained: got weights without an encoder; expected a ResNet as encoder. "
                "Set encoder, or leave pretrained out."
            )
        if self.encoder is not None and self.depth > RESNET_DEPTH:
            raise ValueError(
                f"depth: got {self.depth}; expected at most {RESNET_DEPTH} with a ResNet encoder. "
                f"Set depth: {RESNET_DEPTH}."
            )
        return self

    @model_validator(mode="after")
    def _check_norm_groups(self) -> Self:
        if self.width % self.norm_groups:
            divisors = [g for g in range(1, self.norm_groups) if self.width % g == 0]
            raise ValueError(
                f"norm_groups: got {self.norm_groups}; expected a divisor of width {self.width}. "
                f"Use {divisors[-1]} groups or a width of {self._next_width()}."
            )
        return self

    def _next_width(self) -> int:
        return -(-self.width // self.norm_groups) * self.norm_groups


class SmpUNetSpec(Spec):
    """Spec of segmentation-models-pytorch's U-Net with a ResNet encoder and five downsamplings.

    Attributes:
        encoder: Name of the ResNet.
        pretrained: Weights of the ResNet: ``none``, or a local file of torchvision's weights.
        film_dropout: Share of training samples without conditioning, so that the network also works without.
    """

    kind: Literal["smp_unet"] = "smp_unet"
    encoder: ResNet = "resnet34"
    pretrained: str | None = None
    film_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class SegformerSpec(Spec):
    """Spec of a SegFormer: a published size, or ``custom`` sizes for small networks in tests and demos.

    Attributes:
        backbone: Published size, or ``custom``.
        hidden_sizes: Channels of the four stages; required with ``custom``, not allowed otherwise.
        depths: Transformer blocks of the four stages; required with ``custom``, not allowed otherwise.
        num_heads: Attention heads of the four stages, divisors of ``hidden_sizes``; required with ``custom``,
            not allowed otherwise.
        decoder_width: Channels of the decoder; required with ``custom``, not allowed otherwise.
        pretrained: ``none``, a local folder written by ``save_pretrained``, or a name on the hub.
        drop_path: Highest rate of stochastic depth.
        head_dropout: Dropout before the classifier.
    """

    kind: Literal["segformer"] = "segformer"
    backbone: Literal["b0", "b1", "b2", "b3", "b4", "b5", "custom"] = "b2"
    hidden_sizes: FourSizes | None = None
    depths: FourDepths | None = None
    num_heads: FourSizes | None = None
    decoder_width: Size | None = None
    pretrained: str = "none"
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.1
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _check_custom_sizes(self) -> Self:
        sizes = {
            "hidden_sizes": self.hidden_sizes,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "decoder_width": self.decoder_width,
        }
        given = [name for name, value in sizes.items() if value is not None]
        missing = [name for name in sizes if name not in given]
        if self.backbone == "custom" and missing:
            raise ValueError(
                f"backbone custom: got no {', '.join(missing)}; expected all. Give them, or use b0 to b5."
            )
        if self.backbone != "custom" and given:
            raise ValueError(
                f"got {', '.join(given)} with backbone {self.backbone}; expected none. "
                "Leave them out, or set backbone: custom."
            )
        for channels, heads in zip(self.hidden_sizes or (), self.num_heads or (), strict=True):
            if channels % heads:
                raise ValueError(
                    f"hidden_sizes: got {channels} channels for {heads} heads; expected a multiple of heads. "
                    f"Use {-(-channels // heads) * heads} channels."
                )
        return self


def _kind_or(default: str) -> Callable[[Any], str]:
    """Return a discriminator for a union of specs; a mapping without ``kind`` has the default kind."""

    def kind_of(value: Any) -> str:
        kind = value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", default)
        return str(kind)

    return kind_of


MapModel: TypeAlias = Annotated[
    Annotated[UNetSpec, Tag("unet")] | Annotated[SmpUNetSpec, Tag("smp_unet")],
    Discriminator(_kind_or("unet")),
]
"""Spec of a network that predicts a map; a mapping without ``kind`` declares a ``unet``."""

SegmentationModel: TypeAlias = SegformerSpec
"""Spec of a network that predicts classes."""


def without_pretrained_weights(model: SegmentationModel | MapModel) -> SegmentationModel | MapModel:
    """Return the spec without pretrained weights, for a network whose trained weights are loaded next."""
    return model.model_copy(update={"pretrained": type(model).model_fields["pretrained"].default})

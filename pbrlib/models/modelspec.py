"""What a network is, declared: sizes and starting weights. Reading a configuration needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from pbrlib.spec import Spec

RESNET_DEPTH = 5
"""How often a ResNet halves the resolution."""

ResNet: TypeAlias = Literal["resnet18", "resnet34", "resnet50"]

Size: TypeAlias = Annotated[int, Field(ge=1, le=16384)]
"""Channels; the largest published network has 1024."""

FourSizes: TypeAlias = tuple[Size, Size, Size, Size]
Blocks: TypeAlias = Annotated[int, Field(ge=1, le=128)]
FourDepths: TypeAlias = tuple[Blocks, Blocks, Blocks, Blocks]


class UNetSpec(Spec):
    """The FiLM U-Net: ``depth`` halvings, channels ``width * 2**level``.

    Attributes:
        width: Channels at full resolution.
        depth: Number of halvings; the sides of an input are multiples of ``2**depth``.
        norm_groups: Groups of every GroupNorm; divides ``width``.
        film_dropout: Share of training samples that see no conditioning, so the net also works without.
        encoder: A ResNet in the place of the recipe's own encoder, below full resolution; it sets the
            channels there, and has at most five halvings.
        pretrained: Of that ResNet: ``none``, or a local file of torchvision's weights.
    """

    kind: Literal["unet"] = "unet"
    width: Size = 96
    depth: Annotated[int, Field(ge=1, le=6)] = 4
    norm_groups: PositiveInt = 8
    film_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    encoder: ResNet | None = None
    pretrained: str | None = None

    @model_validator(mode="after")
    def _resnet_as_it_is(self) -> Self:
        if self.encoder is None and self.pretrained is not None:
            raise ValueError("pretrained belongs to a ResNet. Name one as encoder, or leave pretrained out.")
        if self.encoder is not None and self.depth > RESNET_DEPTH:
            raise ValueError(f"depth {self.depth}: a ResNet halves {RESNET_DEPTH} times at most. Use that.")
        return self

    @model_validator(mode="after")
    def _groups_divide_width(self) -> Self:
        if self.width % self.norm_groups:
            divisors = [g for g in range(1, self.norm_groups) if self.width % g == 0]
            raise ValueError(
                f"norm_groups {self.norm_groups} does not divide width {self.width}. "
                f"Use {divisors[-1]} groups or a width of {self._next_width()}."
            )
        return self

    def _next_width(self) -> int:
        return -(-self.width // self.norm_groups) * self.norm_groups


class SmpUNetSpec(Spec):
    """The U-Net of segmentation-models-pytorch over a ResNet, five halvings.

    Attributes:
        encoder: The ResNet.
        pretrained: Of the ResNet: ``none``, or a local file of torchvision's weights.
        film_dropout: Share of training samples that see no conditioning, so the net also works without.
    """

    kind: Literal["smp_unet"] = "smp_unet"
    encoder: ResNet = "resnet34"
    pretrained: str | None = None
    film_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class SegformerSpec(Spec):
    """SegFormer: one of the published sizes, or ``custom`` with its own (small nets for tests and demos).

    Attributes:
        backbone: Published size, or ``custom``.
        hidden_sizes: Channels of the four stages; only and always with ``custom``.
        depths: Transformer blocks of the four stages; likewise.
        num_heads: Attention heads of the four stages, each dividing its channels; likewise.
        decoder_width: Channels of the decoder; likewise.
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
    def _sizes_belong_to_custom(self) -> Self:
        sizes = {
            "hidden_sizes": self.hidden_sizes,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "decoder_width": self.decoder_width,
        }
        given = [name for name, value in sizes.items() if value is not None]
        missing = [name for name in sizes if name not in given]
        if self.backbone == "custom" and missing:
            raise ValueError(f"backbone custom needs {', '.join(missing)}. Give them, or name b0 to b5.")
        if self.backbone != "custom" and given:
            raise ValueError(
                f"{', '.join(given)} given beside backbone {self.backbone}, whose sizes are published. "
                "Leave them out, or set backbone: custom."
            )
        for channels, heads in zip(self.hidden_sizes or (), self.num_heads or (), strict=True):
            if channels % heads:
                raise ValueError(f"hidden_sizes: {channels} channels cannot be split over {heads} heads.")
        return self


def _kind_or(default: str) -> Callable[[Any], str]:
    """Tells the kinds of a union apart; a mapping without ``kind`` is of the default one."""

    def kind_of(value: Any) -> str:
        kind = value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", default)
        return str(kind)

    return kind_of


MapModel: TypeAlias = Annotated[
    Annotated[UNetSpec, Tag("unet")] | Annotated[SmpUNetSpec, Tag("smp_unet")],
    Discriminator(_kind_or("unet")),
]
"""The kinds of network that predict a map; a mapping without ``kind`` declares a ``unet``."""

SegmentationModel: TypeAlias = SegformerSpec
"""The kinds of network that predict classes."""


def unfetched(model: SegmentationModel | MapModel) -> SegmentationModel | MapModel:
    """The network without pretrained weights: its own are about to be loaded, so none are to be fetched."""
    return model.model_copy(update={"pretrained": type(model).model_fields["pretrained"].default})

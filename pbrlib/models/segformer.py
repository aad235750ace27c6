"""SegFormer with six input channels, built from transformers' modules under stable parameter names.

transformers renames its modules between releases, so checkpoints, optimizer rules and layer decay use the
names given here: ``encoder.stages.K.*`` (patch embedding included), ``decoder.*``, ``head.*``. Inside a
stage the names are those of transformers 5.17 and later.

transformers is imported inside functions: the import takes seconds, and processes that only launch or watch
a training run import this module too.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pbrlib.errors import CheckpointError
from pbrlib.maps import CLASSES, DIFFUSE, NORMAL
from pbrlib.models.blocks import IMAGENET_MEAN, IMAGENET_STD, adapt_input_channels, resize
from pbrlib.models.donor import hide_progress_bars, load_transformers_segformer
from pbrlib.models.modelspec import SegformerSpec
from pbrlib.models.network import NetworkOutput, check_sides, exact_logits

if TYPE_CHECKING:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

# Xie et al. 2021, table 6: blocks per stage and channels of the decoder.
_PUBLISHED = {
    "b0": ((2, 2, 2, 2), 256),
    "b1": ((2, 2, 2, 2), 256),
    "b2": ((3, 4, 6, 3), 768),
    "b3": ((3, 4, 18, 3), 768),
    "b4": ((3, 8, 27, 3), 768),
    "b5": ((3, 6, 40, 3), 768),
}


def _config(spec: SegformerSpec, *, num_classes: int) -> SegformerConfig:
    """Return transformers' config of a spec."""
    from transformers import SegformerConfig

    if spec.backbone == "custom":
        sizes, heads = spec.hidden_sizes, spec.num_heads
        depths, decoder_width = spec.depths, spec.decoder_width
    else:
        sizes = (32, 64, 160, 256) if spec.backbone == "b0" else (64, 128, 320, 512)
        heads = (1, 2, 5, 8)
        depths, decoder_width = _PUBLISHED[spec.backbone]
    assert sizes is not None
    assert depths is not None
    assert heads is not None
    return SegformerConfig(
        num_channels=DIFFUSE.channels + NORMAL.channels,
        hidden_sizes=list(sizes),
        depths=list(depths),
        num_attention_heads=list(heads),
        decoder_hidden_size=decoder_width,
        drop_path_rate=spec.drop_path,
        classifier_dropout_prob=spec.head_dropout,
        num_labels=num_classes,
    )


class _Encoder(nn.Module):
    """The four stages of the Mix Transformer; each includes its patch embedding."""

    def __init__(self, stages: nn.ModuleList) -> None:
        super().__init__()
        self.stages = stages

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """The all-MLP decoder: projects each stage to one width, resizes to 1/4 resolution and fuses.

    Projection and fusing convolution are linear, with only a bilinear resize between them, and a 1x1
    convolution commutes with the resize. So each stage is multiplied once by the product of both weights, at
    its own resolution. The result equals transformers' head with a fraction of the arithmetic, and without
    four wide feature maps at 1/4 resolution in memory.
    """

    def __init__(self, decode_head: Any) -> None:
        super().__init__()
        self.projections = nn.ModuleList(part.proj for part in decode_head.linear_projections)
        self.fuse: nn.Conv2d = decode_head.linear_fuse
        self.norm: nn.BatchNorm2d = decode_head.batch_norm
        self.dropout: nn.Dropout = decode_head.dropout

    def forward(self, features: list[Tensor]) -> Tensor:
        size = (features[0].shape[2], features[0].shape[3])
        # transformers concatenates the deepest stage first
        shares = self.fuse.weight.flatten(1).chunk(len(features), dim=1)[::-1]
        fused: Tensor | None = None
        for feature, projection, share in zip(features, self.projections, shares, strict=True):
            assert isinstance(projection, nn.Linear)
            weight, bias = share @ projection.weight, share @ projection.bias
            part = resize(F.conv2d(feature, weight[:, :, None, None], bias), size)
            fused = part if fused is None else fused + part
        out: Tensor = self.dropout(F.relu(self.norm(fused)))
        return out


class Segformer(nn.Module):
    """Predicts material classes from diffuse or albedo, and normal.

    Args:
        spec: Size and starting weights. On the meta device no weights are read.
        num_classes: Channels of the logits.

    Raises:
        CheckpointError: ``spec.pretrained`` cannot be read, or has another architecture.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: SegformerSpec, *, num_classes: int = len(CLASSES)) -> None:
        from transformers import SegformerForSemanticSegmentation

        super().__init__()
        self.spec = spec
        config = _config(spec, num_classes=num_classes)
        donor = SegformerForSemanticSegmentation(config)
        self.encoder = _Encoder(donor.segformer.stages)
        self.decoder = _Decoder(donor.decode_head)
        self.head = donor.decode_head.classifier
        self._feature_channels: int = config.hidden_sizes[-1]
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in normalisation())
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        if spec.pretrained != "none" and not self.head.weight.is_meta:
            _load_pretrained(self, spec.pretrained, config=config)

    @property
    def stride(self) -> int:
        """The sides of an input are multiples of this."""
        return 32

    @property
    def stem_names(self) -> tuple[str, ...]:
        """Names of the convolution weights that read the input channels."""
        return ("encoder.stages.0.patch_embeddings.proj.weight",)

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the parameters of the head, which computes the logits."""
        return ("head.weight", "head.bias")

    @property
    def label(self) -> str:
        """The architecture and its published size."""
        return f"{self.spec.kind} {self.spec.backbone}"

    @property
    def feature_channels(self) -> int:
        """Channels of the last encoder stage: 256 for B0, 512 for B1 to B5."""
        return self._feature_channels

    def forward(self, x: Float[Tensor, "n 6 h w"], cond: None = None) -> NetworkOutput:
        """Return class logits at the size of the input, and the last stage's features at 1/32 of it.

        Args:
            x: Diffuse or albedo, sRGB in [0, 1], then the normal, OpenGL in [-1, 1]; sides multiples of 32.
            cond: Always None; a SegFormer takes no conditioning.

        Raises:
            ValueError: Sides are no multiples of the stride, or conditioning is given.
        """
        if cond is not None:
            raise ValueError("cond: got features; expected None, as a SegFormer takes no conditioning.")
        check_sides(x, stride=self.stride)
        features = self.encoder((x - self.mean) / self.std)
        logits = exact_logits(self.head, self.decoder(features))
        return NetworkOutput(logits=resize(logits, (x.shape[2], x.shape[3])), features=features[-1])


def normalisation() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per input channel: ImageNet's for colour, 0 and 1 for the normal."""
    unchanged = NORMAL.channels
    return (*IMAGENET_MEAN, *(0.0,) * unchanged), (*IMAGENET_STD, *(1.0,) * unchanged)


def save_pretrained(network: Segformer, folder: Path, *, labels: Sequence[str]) -> None:
    """Write a network in transformers' layout, for ``SegformerForSemanticSegmentation.from_pretrained``.

    transformers' model expects the normalised input ``(x - mean) / std`` and returns logits at a quarter of
    its size. ``labels`` name the classes. Raises OSError if the folder cannot be written.
    """
    from transformers import SegformerForSemanticSegmentation

    config = _config(network.spec, num_classes=len(labels))
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    copy = SegformerForSemanticSegmentation(config)
    _parts(copy).load_state_dict(network.state_dict())
    with hide_progress_bars():
        copy.save_pretrained(folder)
    # safetensors creates files that only their owner can read.
    shutil.copymode(folder / "config.json", folder / "model.safetensors")


def read_pretrained(folder: Path) -> dict[str, Tensor]:
    """Read the weights that `save_pretrained` wrote, under this module's names; nothing is downloaded.

    Raises CheckpointError if the folder cannot be read or lacks tensors.
    """
    remedy = "Copy the whole folder again."
    donor, absent = load_transformers_segformer(
        str(folder), place=str(folder), remedy=remedy, local_files_only=True
    )
    if absent:
        raise CheckpointError(f"{folder}: lacks {len(absent)} tensors, {min(absent)} first. {remedy}")
    return dict(_parts(donor).state_dict())


def _parts(donor: SegformerForSemanticSegmentation) -> nn.ModuleDict:
    """Return the modules of transformers' network under this module's names, without copying them."""
    return nn.ModuleDict(
        {
            "encoder": _Encoder(donor.segformer.stages),
            "decoder": _Decoder(donor.decode_head),
            "head": donor.decode_head.classifier,
        }
    )


def _load_pretrained(network: Segformer, source: str, *, config: SegformerConfig) -> None:
    """Copy the weights of a three-channel SegFormer (classification or segmentation) into ``network``.

    The classifier keeps its initial weights, since the donor has other classes. A donor without a decoder
    (ImageNet) leaves the decoder at its initial weights too.
    """
    donor, absent = load_transformers_segformer(
        source,
        place=f"pretrained: {source}",
        remedy="Set pretrained to a local folder written by save_pretrained, or to none.",
    )
    for field in ("hidden_sizes", "depths", "num_attention_heads"):
        theirs, ours = list(getattr(donor.config, field)), list(getattr(config, field))
        if theirs != ours:
            raise CheckpointError(
                f"pretrained: got {source} with {field} {theirs}; expected {ours}. "
                "Use weights of the same backbone, or set pretrained: none."
            )
    lacking = sorted(name for name in absent if name.startswith("segformer."))
    if lacking:
        raise CheckpointError(
            f"pretrained: {source} lacks {len(lacking)} tensors of the encoder, {lacking[0]} first. "
            "Use a folder that a SegFormer's save_pretrained wrote, or set pretrained: none."
        )
    encoder = _Encoder(donor.segformer.stages).state_dict()
    stem = "stages.0.patch_embeddings.proj.weight"
    colour = range(encoder[stem].shape[1])
    encoder[stem] = adapt_input_channels(
        encoder[stem], [*colour, *[None] * (config.num_channels - len(colour))]
    )
    network.encoder.load_state_dict(encoder)
    if not any(name.startswith("decode_head.linear") for name in absent):
        network.decoder.load_state_dict(_Decoder(donor.decode_head).state_dict())

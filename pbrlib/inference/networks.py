"""The networks of the chain by role: what each reads and answers, and how a checkpoint rebuilds one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field, ValidationError
from torch import Tensor, nn

from pbrlib.errors import CheckpointError
from pbrlib.maps import CLASSES, DIFFUSE, GLOSS, MAPS, NORMAL, RELIEF
from pbrlib.models.modelspec import SegformerSpec, Size, UNetSpec, unfetched
from pbrlib.models.segformer import Segformer
from pbrlib.models.unet import UNet
from pbrlib.spec import Spec
from pbrlib.train.checkpoint.state import check_weights, put_weights, read_state, read_weights

Network = TypeVar("Network", bound=nn.Module)

INPUTS = {
    "colour": DIFFUSE.channels,  # the diffuse, or in its place the albedo
    "normal": NORMAL.channels,
    "classes": len(CLASSES),
    "relief": RELIEF.channels,
    "gloss": GLOSS.channels + 1,  # with a flag that says whether there is one
}
"""What a map network can read, by meaning, and the channels of each."""


class SegmentationNetwork(Spec):
    """Class logits from (diffuse or albedo) and normal; gives the features that condition the others.

    ``merge`` names classes that it never answers, and those that stand for them.
    """

    role: Literal["segmentation"] = "segmentation"
    model: SegformerSpec
    merge: Mapping[str, str] | None = None


class MapNetwork(Spec):
    """One map from what its role reads; ``condition_channels`` are those of the SegFormer's last stage.

    ``use_normal`` belongs to metallic, ``use_gloss`` to roughness and metallic.
    """

    role: Literal["albedo", "roughness", "metallic", "height", "ao"]
    model: UNetSpec
    condition_channels: Size
    use_normal: bool = False
    use_gloss: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the network reads, in order; each a key of ``INPUTS``."""
        gloss = ("gloss",) if self.use_gloss else ()
        match self.role:
            case "albedo":
                return ("colour", "normal")
            case "roughness":
                return ("colour", "normal", "classes", *gloss)
            case "metallic":
                return ("colour", "classes", *(("normal",) if self.use_normal else ()), *gloss)
            case "height" | "ao":
                return ("normal", "relief")

    @property
    def channels(self) -> tuple[str, ...]:
        """The meaning of each input channel, such as ``normal.1``; equal in every network that reads it."""
        return tuple(f"{name}.{number}" for name in self.inputs for number in range(INPUTS[name]))


class NetworkSpec(Spec):
    """The declaration that lies in every checkpoint, enough to rebuild its network."""

    network: SegmentationNetwork | MapNetwork = Field(discriminator="role")


def build_segformer(spec: SegmentationNetwork) -> Segformer:
    """A fresh segmentation network."""
    return Segformer(spec.model, num_classes=len(CLASSES))


def build_unet(spec: MapNetwork) -> UNet:
    """A fresh map network."""
    return UNet(
        spec.model,
        in_channels=len(spec.channels),
        out_channels=MAPS[spec.role].channels,
        cond_channels=spec.condition_channels,
    )


def open_network(
    folder: Path, *, device: torch.device
) -> tuple[SegmentationNetwork, Segformer] | tuple[MapNetwork, UNet]:
    """The network of a checkpoint, frozen and in eval mode; raises CheckpointError when it does not fit."""
    return frozen_network(declared_network(folder), read_weights(folder), place=folder, device=device)


def frozen_network(
    spec: SegmentationNetwork | MapNetwork,
    weights: Mapping[str, Tensor],
    *,
    place: Path,
    device: torch.device,
) -> tuple[SegmentationNetwork, Segformer] | tuple[MapNetwork, UNet]:
    """A declared network with weights that come from ``place``, frozen and in eval mode.

    Raises CheckpointError when they do not fit.
    """
    spec = without_donor(spec)
    with torch.device(
        "meta"
    ):  # a few bytes can declare more than any memory holds: its weights must fit first
        declared = build_segformer(spec) if isinstance(spec, SegmentationNetwork) else build_unet(spec)
    check_weights(weights, declared, place=place)
    if isinstance(spec, SegmentationNetwork):
        return spec, _frozen(build_segformer(spec), weights, place, device)
    return spec, _frozen(build_unet(spec), weights, place, device)


def without_donor(spec: SegmentationNetwork | MapNetwork) -> SegmentationNetwork | MapNetwork:
    """The declaration of a network whose weights are at hand: nothing is to be fetched for it."""
    return spec.model_copy(update={"model": unfetched(spec.model)})


def declared_network(folder: Path) -> SegmentationNetwork | MapNetwork:
    """What network a checkpoint holds; raises CheckpointError when it declares none."""
    state = read_state(folder)
    try:
        return NetworkSpec.model_validate({"network": state.network}).network
    except ValidationError as error:
        raise CheckpointError(f"{folder}: declares no network that this program knows ({error}).") from error


def _frozen(network: Network, weights: Mapping[str, Tensor], place: Path, device: torch.device) -> Network:
    put_weights(weights, network, place=place)
    return network.to(device).eval().requires_grad_(False)


def colour_input(
    colour: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 6 h w"]:
    """What SegFormer and the albedo network read: sRGB colour in [0, 1] and an OpenGL unit normal."""
    return torch.cat([colour, normal], dim=1)


def gloss_input(gloss: Float[Tensor, "n 1 h w"], *, shown: Bool[Tensor, " n"]) -> Float[Tensor, "n 2 h w"]:
    """The old gloss in [0, 1] and a flag that is 1 where a sample shows one; both 0 where it does not."""
    flag = shown.to(gloss.device, gloss.dtype)[:, None, None, None]
    return torch.cat([gloss * flag, flag.expand_as(gloss)], dim=1)


def map_input(spec: MapNetwork, given: Mapping[str, Tensor | None]) -> Float[Tensor, "n c h w"]:
    """What a map network reads, in the order of its channels.

    ``given`` holds by the names of ``INPUTS`` at least what the network reads: ``colour`` (N, 3, H, W) sRGB
    in [0, 1], for roughness and metallic the predicted albedo; ``normal`` (N, 3, H, W) OpenGL; ``classes``
    (N, K, H, W) predicted probabilities; ``relief`` (N, 2, H, W) in [-1, 1]; ``gloss`` as `gloss_input`
    gives it.
    """
    parts = [given[name] for name in spec.inputs]
    assert all(part is not None for part in parts), f"{spec.role} reads {', '.join(spec.inputs)}"
    return torch.cat([part for part in parts if part is not None], dim=1)

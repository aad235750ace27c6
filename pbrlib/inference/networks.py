"""The networks of the chain by role: what each reads and answers, and how a checkpoint rebuilds one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from pydantic import Field, ValidationError
from torch import Tensor, nn

from pbrlib.errors import CheckpointError
from pbrlib.maps import ALBEDO, CLASSES, DIFFUSE, MAPS, NORMAL, RELIEF
from pbrlib.models.segformer import Segformer
from pbrlib.models.spec import SegformerSpec, UNetSpec
from pbrlib.models.unet import UNet
from pbrlib.spec import Spec
from pbrlib.train.state import load_weights, read_state

Network = TypeVar("Network", bound=nn.Module)


class SegmentationNetwork(Spec):
    """Class logits from (diffuse or albedo) and normal; gives the features that condition the others."""

    role: Literal["segmentation"] = "segmentation"
    model: SegformerSpec


class MapNetwork(Spec):
    """One map from what its role reads; ``condition_channels`` are those of the SegFormer's last stage."""

    role: Literal["albedo", "roughness", "metallic", "height", "ao"]
    model: UNetSpec
    condition_channels: int
    use_normal: bool = False

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        match self.role:
            case "albedo":
                return DIFFUSE.channels + NORMAL.channels
            case "roughness":
                return ALBEDO.channels + NORMAL.channels + len(CLASSES)
            case "metallic":
                return ALBEDO.channels + len(CLASSES) + (NORMAL.channels if self.use_normal else 0)
            case "height" | "ao":
                return NORMAL.channels + RELIEF.channels


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
        in_channels=spec.in_channels,
        out_channels=MAPS[spec.role].channels,
        cond_channels=spec.condition_channels,
    )


def open_network(
    folder: Path, *, device: torch.device
) -> tuple[SegmentationNetwork, Segformer] | tuple[MapNetwork, UNet]:
    """The network of a checkpoint, frozen and in eval mode; raises CheckpointError when it does not fit."""
    state = read_state(folder)
    try:
        spec = NetworkSpec.model_validate({"network": state.network}).network
    except ValidationError as error:
        raise CheckpointError(f"{folder}: declares no network that this program knows ({error}).") from error
    # The weights come from the checkpoint: nothing is to be fetched.
    unfetched = type(spec.model).model_fields["pretrained"].default
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"pretrained": unfetched})})
    if isinstance(spec, SegmentationNetwork):
        return spec, _frozen(build_segformer(spec), folder, device)
    return spec, _frozen(build_unet(spec), folder, device)


def _frozen(network: Network, folder: Path, device: torch.device) -> Network:
    load_weights(folder, network)
    return network.to(device).eval().requires_grad_(False)


def colour_input(
    colour: Float[Tensor, "n 3 h w"], normal: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, "n 6 h w"]:
    """What SegFormer and the albedo network read: sRGB colour in [0, 1] and an OpenGL unit normal."""
    return torch.cat([colour, normal], dim=1)


def map_input(
    spec: MapNetwork,
    *,
    albedo: Tensor | None,
    normal: Float[Tensor, "n 3 h w"],
    probabilities: Tensor | None,
    relief: Tensor | None,
) -> Float[Tensor, "n c h w"]:
    """What a map network reads, in the order of its channels.

    ``albedo`` (N, 3, H, W) in [0, 1] and ``probabilities`` (N, K, H, W) are predictions of the earlier
    networks; ``relief`` (N, 2, H, W) in [-1, 1].
    """
    parts: tuple[Tensor | None, ...]
    match spec.role:
        case "roughness":
            parts = (albedo, normal, probabilities)
        case "metallic":
            parts = (albedo, probabilities, normal) if spec.use_normal else (albedo, probabilities)
        case "height" | "ao":
            parts = (normal, relief)
        case "albedo":
            raise AssertionError("the albedo network reads colour_input")
    assert all(part is not None for part in parts)
    return torch.cat([part for part in parts if part is not None], dim=1)

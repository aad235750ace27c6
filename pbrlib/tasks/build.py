"""A task from its declaration, with the frozen networks it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pbrlib.errors import CheckpointError
from pbrlib.inference.chain import Chain
from pbrlib.inference.networks import open_network
from pbrlib.losses.spec import LossSpec
from pbrlib.models.segformer import Segformer
from pbrlib.models.unet import UNet
from pbrlib.tasks.maps import MapTask
from pbrlib.tasks.segmentation import SegmentationTask
from pbrlib.tasks.spec import TaskSpec


def build_task(
    spec: TaskSpec,
    *,
    loss: LossSpec,
    class_weights: Tensor | None,
    frozen: Mapping[str, Path],
    device: torch.device,
) -> SegmentationTask | MapTask:
    """The task with fresh weights; ``frozen`` are the checkpoints of the networks before it, by role.

    Raises CheckpointError when one of them holds a network of another role.
    """
    if spec.kind == "segmentation":
        return SegmentationTask(spec, loss=loss, class_weights=class_weights)
    segformer = _open(frozen["segformer"], kind=Segformer, wanted="segmentation", device=device)
    albedo = None
    if "albedo" in frozen:
        albedo = _open(frozen["albedo"], kind=UNet, wanted="albedo", device=device)
    assert isinstance(segformer, Segformer)
    assert albedo is None or isinstance(albedo, UNet)
    chain = Chain(segformer=segformer, albedo=albedo, maps={}, device=device)
    return MapTask(spec, chain=chain, loss=loss)


def _open(folder: Path, *, kind: type[nn.Module], wanted: str, device: torch.device) -> nn.Module:
    spec, network = open_network(folder, device=device)
    if spec.role != wanted or not isinstance(network, kind):
        raise CheckpointError(
            f"{folder}: holds a network for {spec.role}, {wanted} is needed. Name its run instead."
        )
    return network

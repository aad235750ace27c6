"""Where a network's weights come from when a phase begins: as they are, or as far as another role's fit."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch

from pbrlib.errors import CheckpointError
from pbrlib.inference.networks import (
    MapNetwork,
    SegmentationNetwork,
    build_segformer,
    build_unet,
    declared_network,
)
from pbrlib.models.segformer import Segformer
from pbrlib.models.unet import UNet, stem_of
from pbrlib.tasks.maps import MapTask, map_network
from pbrlib.tasks.segmentation import SegmentationTask
from pbrlib.tasks.taskspec import SegmentationSpec, TaskSpec
from pbrlib.train.checkpoint.state import load_weights
from pbrlib.train.checkpoint.warmstart import Ends, Sizes, WarmStart, misfits, sizes_of, warm_start

Declared: TypeAlias = SegmentationNetwork | MapNetwork


def declared_by(task: TaskSpec, *, condition_channels: int) -> Declared:
    """The network of a task whose conditioning has that many channels."""
    if isinstance(task, SegmentationSpec):
        return SegmentationNetwork(model=task.model, merge=task.merge)
    return map_network(task, condition_channels=condition_channels)


def network_on_meta(declared: Declared) -> Segformer | UNet:
    """A network without memory: names and shapes of its parameters."""
    with torch.device("meta"):
        if isinstance(declared, SegmentationNetwork):
            return build_segformer(declared)
        return build_unet(declared)


def differences(donor: Declared, own: Declared) -> list[str]:
    """Why a network cannot begin from a donor, found without weights; empty where it can."""
    if isinstance(donor, MapNetwork) and isinstance(own, MapNetwork) and donor.role != own.role:
        return misfits(_sizes(donor), _sizes(own), own=_ends(own), theirs=donor.channels)
    if donor.role != own.role:
        return [f"a network for {donor.role} has nothing in common with one for {own.role}"]
    nothing_differs = Ends(stem=(), channels=(), head=())
    return misfits(_sizes(donor), _sizes(own), own=nothing_differs, theirs=())


def renewed(donor: Declared, own: Declared) -> dict[str, tuple[str, ...]]:
    """What a network does not take from a donor that fits: by name its input channels and its tensors.

    Empty where both have the same role.
    """
    if donor.role == own.role or not (isinstance(donor, MapNetwork) and isinstance(own, MapNetwork)):
        return {}
    new = tuple(name for name in own.channels if name not in donor.channels)
    return {"channels": new, "tensors": UNet.HEAD}


def check_start(folder: Path, task: TaskSpec, *, place: str) -> None:
    """Raises CheckpointError, of ``place``, when a task cannot begin from a checkpoint; reads no weights."""
    donor = declared_network(folder)
    # What conditions the network comes from elsewhere and is not known yet.
    conditioned = donor.condition_channels if isinstance(donor, MapNetwork) else 1
    found = differences(donor, declared_by(task, condition_channels=conditioned))
    if found:
        raise CheckpointError(
            f"{place}: {folder} is of another architecture ({len(found)} differences: {found[0]}). "
            "Give both models the same sizes, or name another donor."
        )


def start_from(folder: Path, task: SegmentationTask | MapTask, *, seed: int) -> WarmStart | None:
    """Gives a task's fresh network the weights of a checkpoint.

    One of the same role is loaded whole (None); of one for another map all is taken that means the same
    here, see `pbrlib.train.checkpoint.warmstart.warm_start`. ``seed`` draws what the donor lacks.

    Raises:
        CheckpointError: It cannot be read or does not fit.
    """
    donor = declared_network(folder)
    if donor.role == task.declared.role:
        load_weights(folder, task.network)
        return None
    if not (isinstance(donor, MapNetwork) and isinstance(task.declared, MapNetwork)):
        raise CheckpointError(
            f"{folder}: holds a network for {donor.role}, from which one for {task.declared.role} cannot "
            "begin. Name another donor, or leave starts_from out."
        )
    return warm_start(folder, task.network, own=_ends(task.declared), theirs=donor.channels, seed=seed)


def _ends(declared: MapNetwork) -> Ends:
    return Ends(stem=stem_of(declared.model), channels=declared.channels, head=UNet.HEAD)


def _sizes(declared: Declared) -> Sizes:
    return sizes_of(network_on_meta(declared))

"""A task from its declaration, with the frozen networks it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pbrlib.data.augment.augmentspec import CategorySpec
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import CheckpointError, ConfigError
from pbrlib.inference.chain import Chain
from pbrlib.inference.opened import open_network
from pbrlib.losses.lossspec import LossSpec
from pbrlib.models.network import Network
from pbrlib.tasks.maps import MapTask
from pbrlib.tasks.segmentation import SegmentationTask
from pbrlib.tasks.taskspec import MetallicSpec, TaskSpec


def build_task(
    spec: TaskSpec,
    *,
    losses: Mapping[str, LossSpec],
    class_weights: Tensor | None,
    frozen: Mapping[str, Path],
    device: torch.device,
    mask_dropout: Mapping[str, float] | None = None,
    category: CategorySpec | None = None,
) -> SegmentationTask | MapTask:
    """The task with fresh weights.

    ``losses`` are those of its players, by name; ``frozen`` are the checkpoints of the networks before it, by
    role. ``mask_dropout`` is the share of the pixels of each class that leave the loss while a segmentation
    trains; by ``category`` a map task changes samples without a label of whose class the segmentation is
    sure. Raises CheckpointError when a checkpoint holds a network of another role.
    """
    (player,) = players_of(spec)
    loss = losses[player]
    if spec.kind == "segmentation":
        return SegmentationTask(spec, loss=loss, class_weights=class_weights, mask_dropout=mask_dropout)
    segmentation = _open(frozen["segformer"], role="segmentation", device=device)
    albedo = _open(frozen["albedo"], role="albedo", device=device) if "albedo" in frozen else None
    chain = Chain(segmentation=segmentation, albedo=albedo, maps={}, device=device)
    return MapTask(spec, chain=chain, loss=loss, category=category)


def players_of(spec: TaskSpec) -> tuple[str, ...]:
    """The names of the players of a task; the only one of a supervised task is called as its kind."""
    return (spec.kind,)


def measured(spec: TaskSpec, rows: Sequence[IndexRow], *, mix: Mapping[str, float]) -> TaskSpec:
    """The task with what it leaves to be measured on the training split filled in: metallic's first share.

    A texture counts for its source whatever its size, since each is drawn equally often, and a source for
    its share of the ``mix``. Raises ConfigError when there is no metal, or nothing but metal.
    """
    if not (isinstance(spec, MetallicSpec) and spec.initial_share == "measured"):
        return spec
    share = 0.0
    for source, part in mix.items():
        found = [row.means["metallic"][0] for row in rows if _shows_metal(row, source=source)]
        share += part * sum(found) / max(len(found), 1)
    if not 0.0 < share < 1.0:
        raise ConfigError(
            f"task.initial_share: a share of {share:g} was measured on the training textures of "
            f"{', '.join(mix)}, and one between 0 and 1 is needed. Give a number such as 0.06."
        )
    return spec.model_copy(update={"initial_share": share})


def _shows_metal(row: IndexRow, *, source: str) -> bool:
    return row.split == "train" and row.source == source and "metallic" in row.means


def _open(folder: Path, *, role: str, device: torch.device) -> Network:
    declared, network = open_network(folder, device=device, player=role)
    if declared.role != role:
        raise CheckpointError(
            f"{folder}: holds a network for {declared.role}, {role} is needed. Name its run instead."
        )
    return network

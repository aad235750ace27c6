"""Builds a task from its spec, with the frozen networks that it needs."""

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
    """Build a task with initial or pretrained weights.

    ``losses`` are the losses of its players by name; ``frozen`` are the checkpoints of the earlier networks
    by role. ``mask_dropout`` is, per class, the share of pixels that are excluded from the loss while a
    segmentation trains. ``category`` augments unlabelled samples of a map task if the segmentation is
    confident about their class. Raises CheckpointError if a checkpoint holds a network of another role.
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
    """Return the names of a task's players; a supervised task has one player, named like the task's kind."""
    return (spec.kind,)


def measured(spec: TaskSpec, rows: Sequence[IndexRow], *, mix: Mapping[str, float]) -> TaskSpec:
    """Return the task with ``initial_share: measured`` of metallic replaced by the training split's share.

    Every texture of a source has the same weight, since each is drawn equally often, and every source has its
    weight in ``mix``. Raises ConfigError if the textures hold no metal, or only metal.
    """
    if not (isinstance(spec, MetallicSpec) and spec.initial_share == "measured"):
        return spec
    share = 0.0
    for source, part in mix.items():
        found = [row.means["metallic"][0] for row in rows if _shows_metal(row, source=source)]
        share += part * sum(found) / max(len(found), 1)
    if not 0.0 < share < 1.0:
        raise ConfigError(
            f"task.initial_share: got a measured share of {share:g} on the training textures of "
            f"{', '.join(mix)}; expected one between 0 and 1. Set a number such as 0.06."
        )
    return spec.model_copy(update={"initial_share": share})


def _shows_metal(row: IndexRow, *, source: str) -> bool:
    return row.split == "train" and row.source == source and "metallic" in row.means


def _open(folder: Path, *, role: str, device: torch.device) -> Network:
    declared, network = open_network(folder, device=device, player=role)
    if declared.role != role:
        raise CheckpointError(
            f"{folder}: got a network for {declared.role}; expected {role}. Use the run of that network."
        )
    return network

"""Computes the class weights of a phase from its training textures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pbrlib.curriculum.spec import PhaseSpec
from pbrlib.data.draws.balance import class_pixels, class_weights, describe_capped, merge_classes
from pbrlib.data.shards.index import IndexRow
from pbrlib.tasks.taskspec import TaskSpec, merged_classes


def loss_weights(phase: PhaseSpec, rows: Sequence[IndexRow]) -> Tensor | None:
    """Compute the class weights w_c from the training textures of a phase; None if they are disabled."""
    if not phase.balance.class_weights:
        return None
    return torch.tensor(class_weights(_pixels(phase, rows)), dtype=torch.float32)


def capped_weights(phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow]) -> str | None:
    """Describe the classes whose weight is capped because they are too rare; None if there are none."""
    if task.kind != "segmentation" or not phase.balance.class_weights:
        return None
    return describe_capped(_pixels(phase, merge_classes(rows, merged_classes(task))))


def _pixels(phase: PhaseSpec, rows: Sequence[IndexRow]) -> tuple[int, ...]:
    return class_pixels([row for row in rows if row.split == "train" and row.source in phase.data])

"""The class weights of a phase, from the textures that it trains on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pbrlib.curriculum.spec import PhaseSpec
from pbrlib.data.draws.balance import class_pixels, class_weights, describe_capped, merged
from pbrlib.data.shards.index import IndexRow
from pbrlib.tasks.taskspec import TaskSpec, merged_classes


def loss_weights(phase: PhaseSpec, rows: Sequence[IndexRow]) -> Tensor | None:
    """w_c of a phase, from the training textures of its sources; None where the phase switches it off."""
    if not phase.balance.class_weights:
        return None
    return torch.tensor(class_weights(_pixels(phase, rows)), dtype=torch.float32)


def capped_weights(phase: PhaseSpec, task: TaskSpec, rows: Sequence[IndexRow]) -> str | None:
    """A sentence on the classes that are too rare for their whole weight; None where there is none."""
    if task.kind != "segmentation" or not phase.balance.class_weights:
        return None
    return describe_capped(_pixels(phase, merged(rows, merged_classes(task))))


def _pixels(phase: PhaseSpec, rows: Sequence[IndexRow]) -> tuple[int, ...]:
    return class_pixels([row for row in rows if row.split == "train" and row.source in phase.data])

"""Resolves the weights files that a curriculum names, and drops those that are not needed."""

from __future__ import annotations

from pathlib import Path

from pbrlib.curriculum.spec import Curriculum, PlayerSpec
from pbrlib.models.modelspec import without_pretrained_weights
from pbrlib.tasks.taskspec import TaskSpec


def located(curriculum: Curriculum) -> Curriculum:
    """Return the curriculum with absolute paths of weights files, since workers run in other folders.

    A value that is no local file is kept: a name on the hub, or a folder that exists only on the nodes.
    """
    model = curriculum.task.model
    if model.pretrained not in (None, "none"):
        model = model.model_copy(update={"pretrained": _whole(model.pretrained)})
    phases = {name: phase.with_each_player(_located) for name, phase in curriculum.phases.items()}
    task = curriculum.task.model_copy(update={"model": model})
    return curriculum.model_copy(update={"task": task, "phases": phases})


def from_own_weights(task: TaskSpec) -> TaskSpec:
    """Return the task without pretrained weights, for a network whose trained weights are loaded next."""
    return task.model_copy(update={"model": without_pretrained_weights(task.model)})


def _located(player: PlayerSpec) -> PlayerSpec:
    lpips = player.loss.lpips
    if lpips is None or lpips.backbone == "random":
        return player
    lpips = lpips.model_copy(update={"backbone": _whole(lpips.backbone)})
    return player.model_copy(update={"loss": player.loss.model_copy(update={"lpips": lpips})})


def _whole(text: str) -> str:
    path = Path(text)
    return str(path.resolve()) if path.exists() else text

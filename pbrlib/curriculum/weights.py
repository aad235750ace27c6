"""Resolves the weights files that a curriculum names, and drops those that are not needed."""

from __future__ import annotations

from pathlib import Path

from pbrlib.curriculum.spec import Curriculum, PlayerSpec
from pbrlib.models.modelspec import without_pretrained_weights
from pbrlib.tasks.taskspec import TaskSpec


def with_absolute_paths(curriculum: Curriculum) -> Curriculum:
    """Return the curriculum with absolute paths of weights files, since workers run in other folders.

    Other values are kept: a name on the Hugging Face Hub, or a folder that exists only on the nodes.
    """
    model = curriculum.task.model
    if model.pretrained not in (None, "none"):
        model = model.model_copy(update={"pretrained": _absolute(model.pretrained)})
    phases = {
        name: phase.with_each_player(_player_with_absolute_paths) for name, phase in curriculum.phases.items()
    }
    task = curriculum.task.model_copy(update={"model": model})
    return curriculum.model_copy(update={"task": task, "phases": phases})


def without_pretrained(task: TaskSpec) -> TaskSpec:
    """Return the task without pretrained weights, since the weights of a checkpoint are loaded later."""
    return task.model_copy(update={"model": without_pretrained_weights(task.model)})


def _player_with_absolute_paths(player: PlayerSpec) -> PlayerSpec:
    lpips = player.loss.lpips
    if lpips is None or lpips.backbone == "random":
        return player
    lpips = lpips.model_copy(update={"backbone": _absolute(lpips.backbone)})
    return player.model_copy(update={"loss": player.loss.model_copy(update={"lpips": lpips})})


def _absolute(text: str) -> str:
    path = Path(text)
    return str(path.resolve()) if path.exists() else text

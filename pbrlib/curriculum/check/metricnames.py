"""The names of what validation measures, known before anything is measured."""

from __future__ import annotations

from pbrlib.maps import CLASSES
from pbrlib.tasks.taskspec import TaskSpec


def metric_names(task: TaskSpec, *, source: str) -> tuple[str, ...]:
    """The validation metrics of a task for one source, or ``all``, sorted."""
    prefix = f"val/{source}/{task.kind}"
    if task.kind == "segmentation":
        return (*(f"{prefix}/iou/{name}" for name in CLASSES), f"{prefix}/miou")
    return tuple(f"{prefix}/{unit}" for unit in ("l1", "rmse", "ssim"))

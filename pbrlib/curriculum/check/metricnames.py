"""The names of the validation metrics, for checks before training."""

from __future__ import annotations

from pbrlib.maps import CLASSES
from pbrlib.tasks.taskspec import TaskSpec


def metric_names(task: TaskSpec, *, source: str) -> tuple[str, ...]:
    """Return the names of a task's validation metrics for one source or ``all``, sorted."""
    prefix = f"val/{source}/{task.kind}"
    if task.kind == "segmentation":
        return (*(f"{prefix}/iou/{name}" for name in CLASSES), f"{prefix}/miou")
    return tuple(f"{prefix}/{unit}" for unit in ("l1", "rmse", "ssim"))

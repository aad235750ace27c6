"""The storage of Ray Train: the runs directory, on a disk or on S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pbrlib import storage


def storage_of(folder: Path) -> dict[str, Any]:
    """Return the arguments of ``ray.train.RunConfig`` that make Ray keep its files in a folder."""
    filesystem, key = storage.arrow_filesystem(folder)
    return {"storage_path": key, "storage_filesystem": filesystem}

"""Paths as Ray Train sees them: its record of checkpoints goes the way of everything else that is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train

from pbrlib import storage
from pbrlib.train.checkpoint.state import STATE


def storage_of(folder: Path) -> dict[str, Any]:
    """Where Ray keeps what it notes of the fits in a folder, as arguments of ``RunConfig``."""
    filesystem, key = storage.arrow_filesystem(folder)
    return {"storage_path": key, "storage_filesystem": filesystem}


def sending_to(directory: Path) -> Callable[[ray.train.Checkpoint, str], ray.train.Checkpoint]:
    """How a checkpoint comes into the folder of a phase, of which Ray knows the name.

    ``state.json``, by which a reader knows a checkpoint, is in its place last, so what a fault leaves of one
    is never taken for a whole one.
    """

    def send(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        storage.move_folder(Path(checkpoint.path), directory / name, last=STATE)
        return checkpoint_at(directory / name)

    return send


def checkpoint_at(folder: Path) -> ray.train.Checkpoint:
    """A folder as one of Ray's checkpoints."""
    filesystem, key = storage.arrow_filesystem(folder)
    return ray.train.Checkpoint(key, filesystem=filesystem)


def path_of(checkpoint: ray.train.Checkpoint) -> Path:
    """Where one of Ray's checkpoints lies."""
    return storage.path_in_arrow(checkpoint.filesystem, checkpoint.path)

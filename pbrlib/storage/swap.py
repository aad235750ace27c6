"""Replaces a folder by a finished one; after a kill, either the old folder or the new one exists."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)


def swap_in(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``, and remove the old folder.

    This is one step if the file system can exchange two names. Otherwise, as on NFS, the old folder is first
    renamed, and for a moment no folder has the name of the target; after a kill in that moment, `finish_swap`
    renames the old folder back. Raises OSError.
    """
    if not target.exists():
        new.rename(target)
        return
    if exchange(new, target):
        shutil.rmtree(new)
        return
    old = _old_folder(target)
    target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def finish_swap(target: Path) -> None:
    """Repair the folders after a kill during ``swap_in``; raises OSError."""
    old = _old_folder(target)
    if not old.exists():
        return
    if target.exists():
        shutil.rmtree(old)
    else:
        old.rename(target)


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step; return False if the system does not support it."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    status: int = rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE)
    return status == 0


def _old_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")

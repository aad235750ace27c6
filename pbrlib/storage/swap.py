"""Replaces a folder by a finished one; a kill leaves the old folder or the new one."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)


def swap_in(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``, and remove the old folder.

    One step where the file system can exchange two names. Where it cannot, as on NFS, there is a moment in
    which the old folder stands aside whole and nothing in its place; `finish_swap` mends a kill there.
    Raises OSError.
    """
    if not target.exists():
        new.rename(target)
        return
    if exchange(new, target):
        shutil.rmtree(new)
        return
    aside = _aside(target)
    target.rename(aside)
    new.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


def finish_swap(target: Path) -> None:
    """Repair the folders after a kill during ``swap_in``; raises OSError."""
    aside = _aside(target)
    if not aside.exists():
        return
    if target.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(target)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; return False if the system does not support it."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    done: int = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    return done == 0


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")

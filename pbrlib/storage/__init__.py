"""Files and folders on this machine and on S3, with one path type for both.

Use ``from pbrlib import storage``. `to_path` converts a location that a user writes to a path, which reads,
lists and removes as any ``pathlib.Path``. Operations that a path does not have, such as atomic writing, are
functions of this package: ``storage.write_atomic(path, data)``. Only this package knows whether a path is on
S3. boto3 is imported at the first request to S3.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

from pbrlib.errors import ConfigError
from pbrlib.storage.growing import GrowingFolder
from pbrlib.storage.lines import LineTail as LineTail
from pbrlib.storage.lines import read_records as read_records
from pbrlib.storage.paths import S3Path as S3Path
from pbrlib.storage.paths import to_path as to_path
from pbrlib.storage.store import store_of

LOCK = "writer.lock"
"""The lock file that prevents two commands from writing to a folder at once."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; raises the errors of ``fetched``."""
    with fetched(path) as here, here.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file directly in a folder, by name; empty if there is no folder."""
    with snapshot(folder):
        files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        return {path.name: path.stat().st_size for path in files}


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file atomically: it is complete or does not exist, even if the machine stops.

    Text is written in UTF-8. Raises DataError if the file cannot be written.
    """
    store_of(path).write_atomic(path, data.encode() if isinstance(data, str) else data)


def staged(path: Path) -> AbstractContextManager[Path]:
    """Yield a local file to write to; on success it moves to the path in one step, else it is removed.

    Raises DataError if the file cannot be written or moved (no space, no permission).
    """
    return store_of(path).staged(path)


def put_file(source: Path, target: Path) -> None:
    """Copy a local file to a path in one step; raises DataError on failure."""
    store_of(target).put_file(source, target)


def fetched(path: Path) -> AbstractContextManager[Path]:
    """Yield a local file with the content of a path: the file itself, or a copy that is removed afterwards.

    Raises FileNotFoundError if there is no file, DataError if S3 refuses or the disk is too full for a copy.
    """
    return store_of(path).fetched(path)


def fetched_folder(folder: Path) -> AbstractContextManager[Path]:
    """Yield a local folder with the content of a folder, as ``fetched`` does for a file."""
    return store_of(folder).fetched_folder(folder)


def move_folder(source: Path, target: Path, *, last: str) -> None:
    """Replace a target folder by a local one; the file ``last`` marks a complete folder.

    A reader that checks for this file finds the old folder, none, or the new one, even if the machine stops
    during the move. Raises DataError if S3 refuses, OSError if the disk fails.
    """
    store_of(target).move_folder(source, target, last=last)


def replace_folder(source: Path, target: Path, *, last: str) -> None:
    """Replace a folder as ``move_folder`` does, without a moment in which it is missing, if the disk can.

    `recover_folder` repairs the folder after a kill.
    """
    store_of(target).replace_folder(source, target, last=last)


def recover_folder(target: Path, *, last: str) -> None:
    """Repair a folder after a kill during ``replace_folder``: it is then the old one, the new one, or none.

    Raises DataError if S3 refuses, OSError if the disk fails.
    """
    store_of(target).recover_folder(target, last=last)


def remove_folder(folder: Path, *, first: str | None = None) -> None:
    """Remove a folder if it exists; the file ``first``, which marks a complete folder, is removed first.

    Raises DataError if S3 refuses, OSError if the disk fails.
    """
    store_of(folder).remove_folder(folder, first=first)


def snapshot(folder: Path) -> AbstractContextManager[None]:
    """Answer all requests for names and sizes below a folder of S3 from one listing, inside the block."""
    return store_of(folder).snapshot(folder)


def open_arrow(path: Path) -> Any:
    """Open a file as a ``pyarrow.NativeFile`` with random access; raises FileNotFoundError."""
    return store_of(path).open_arrow(path)


def arrow_filesystem(path: Path) -> tuple[Any, str]:
    """Return a ``pyarrow.fs.FileSystem`` and the key of the path in it."""
    return store_of(path).arrow_filesystem(path)


def append_lines(path: Path, text: str) -> None:
    """Append lines to a text file, which is created if missing; several processes may append to it.

    Raises DataError if S3 refuses, OSError if the disk fails.
    """
    store_of(path).append_lines(path, text)


def open_lines(path: Path) -> TextIO:
    """Open a text file to append lines: a disk gets each line at once, S3 gets all lines on close.

    Raises OSError; closing raises DataError when S3 refuses.
    """
    return store_of(path).open_lines(path)


def follow_lines(path: Path) -> LineTail:
    """Follow a file of records, starting at its current end."""
    return store_of(path).follow_lines(path)


def growing_folder(folder: Path) -> GrowingFolder:
    """Return a local folder of growing files, which appear in ``folder`` at once or when they are sent."""
    return store_of(folder).growing_folder(folder)


def local_folder(folder: Path) -> Path:
    """Return a local folder for temporary files of ``folder``: the folder itself, or a temporary one."""
    return store_of(folder).local_folder(folder)


def make_unfinished(parent: Path, *, prefix: str) -> Path:
    """Create an empty local folder; ``move_folder`` moves it next to ``parent`` once it is complete."""
    return store_of(parent).make_unfinished(parent, prefix=prefix)


def remove_unfinished(parent: Path, *, prefix: str) -> None:
    """Remove the folders of ``make_unfinished`` that killed processes left."""
    for folder in store_of(parent).unfinished(parent, prefix=prefix):
        shutil.rmtree(folder, ignore_errors=True)


def provisional(folder: Path, *, takes_over: bool = False) -> AbstractContextManager[set[Path]]:
    """Yield a set of files and folders; its elements at the end of the block are removed.

    Incomplete files in ``folder`` are removed too, also older ones if this run ``takes_over`` from a killed
    one.

    On S3 nothing is removed: an object that refers to the files may exist although its response was lost.
    """
    return store_of(folder).provisional(folder, takes_over=takes_over)


def sole_writer(folder: Path, *, option: str) -> AbstractContextManager[None]:
    """Prevent other commands from writing to ``folder`` while the block runs.

    The lock on a disk is released when its process ends; on S3 it is a lease that expires after a minute.
    ``option`` is the command-line option that gives the folder.

    Raises:
        ConfigError: Another command writes to the folder, or the file system has no locks.
        DataError: S3 cannot be used, or its lease was lost and the block has been interrupted.
    """
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    return store_of(folder).hold_lock(folder / LOCK, owner=owner, option=option)


def check_writable(folder: Path, *, option: str) -> None:
    """Raise ConfigError if no file can be written to a local folder; the folder does not change.

    ``option`` is the command-line option that gives the folder. Commands check this before a long computation
    whose result they could not write.
    """
    try:
        store_of(folder).try_to_write(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{option}: got {folder}, which leads to a file; expected a folder.") from error
    except OSError as error:
        raise ConfigError(
            f"{option}: got {folder}, where nothing can be written ({error.strerror}); expected a writable "
            "folder. Free space on its disk, change its owner, or give another folder."
        ) from error


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes of the file system of a folder, or None if there is no limit."""
    return store_of(folder).free_bytes(folder)

"""Files and folders, on this machine and on S3: one path type, and what can be done with a path.

``from pbrlib import storage``. `to_path` makes the path of what a user writes; a path reads, lists and
removes by itself, as any ``pathlib.Path``. What a plain path cannot do (whole or not at all, on either kind
of storage) is a function here: ``storage.write_atomic(path, data)``. Whether a path lies on S3 is known in
this package alone. boto3 is imported when S3 is first asked.
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
"""The file that keeps a second writer out of a folder."""


def sha256(path: Path) -> str:
    """Hex digest of a file; errors as for ``fetched``."""
    with fetched(path) as here, here.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sizes(folder: Path) -> dict[str, int]:
    """Bytes by name of the files directly below a folder, sorted; empty if there is no such folder."""
    with snapshot(folder):
        files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        return {path.name: path.stat().st_size for path in files}


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file that is there whole or not at all, even if the machine stops in the middle.

    Text is written in UTF-8. Raises DataError if the file cannot be written.
    """
    store_of(path).write_atomic(path, data.encode() if isinstance(data, str) else data)


def staged(path: Path) -> AbstractContextManager[Path]:
    """Yields a local file to write to; on success it moves to the path in one step, else it is gone.

    Raises DataError if the file cannot be written or moved (no space, no permission).
    """
    return store_of(path).staged(path)


def put_file(source: Path, target: Path) -> None:
    """Copies a local file to a path, in one step; raises DataError if it cannot."""
    store_of(target).put_file(source, target)


def fetched(path: Path) -> AbstractContextManager[Path]:
    """Yields a local file with the content: the file itself, or a copy that lives for the block.

    Raises FileNotFoundError if there is none, DataError if S3 refuses or the copy has no room.
    """
    return store_of(path).fetched(path)


def fetched_folder(folder: Path) -> AbstractContextManager[Path]:
    """As ``fetched``, with everything below a folder."""
    return store_of(folder).fetched_folder(folder)


def move_folder(source: Path, target: Path, *, last: str) -> None:
    """Puts a local folder in the place of a target, whose file named ``last`` says that it is whole.

    A reader that looks for that file sees the old folder, none, or the new one, even if the machine stops in
    the middle. Raises DataError when S3 refuses, OSError when the disk does.
    """
    store_of(target).move_folder(source, target, last=last)


def replace_folder(source: Path, target: Path, *, last: str) -> None:
    """As ``move_folder``; on a disk that can exchange two names there is no moment without a folder.

    `recover_folder` repairs what a kill in the middle leaves.
    """
    store_of(target).replace_folder(source, target, last=last)


def recover_folder(target: Path, *, last: str) -> None:
    """Repairs what a kill in the middle of ``replace_folder`` has left: the old folder, the new one, or none.

    Raises DataError when S3 refuses, OSError when the disk does.
    """
    store_of(target).recover_folder(target, last=last)


def remove_folder(folder: Path, *, first: str | None = None) -> None:
    """Removes a folder, if it is there, beginning with the file, if there is one, that says that it is whole.

    Raises DataError when S3 refuses, OSError when the disk does.
    """
    store_of(folder).remove_folder(folder, first=first)


def snapshot(folder: Path) -> AbstractContextManager[None]:
    """Inside the block, what is asked about names and sizes below a folder of S3 costs one listing in all."""
    return store_of(folder).snapshot(folder)


def open_arrow(path: Path) -> Any:
    """Opens a file as a ``pyarrow.NativeFile`` with random access; raises FileNotFoundError."""
    return store_of(path).open_arrow(path)


def arrow_filesystem(path: Path) -> tuple[Any, str]:
    """A ``pyarrow.fs.FileSystem``, and what it calls the path; `path_in_arrow` is the way back."""
    return store_of(path).arrow_filesystem(path)


def path_in_arrow(filesystem: Any, key: str) -> Path:
    """The path that one of the file systems of ``arrow_filesystem`` calls ``key``."""
    from pbrlib.storage.arrow import bucket_filesystem, from_key

    return from_key(key) if filesystem == bucket_filesystem() else Path(key)


def append_lines(path: Path, text: str) -> None:
    """Adds lines to a text file, which is made if need be; several processes may add to it.

    Raises DataError when S3 refuses, OSError when the disk does.
    """
    store_of(path).append_lines(path, text)


def open_lines(path: Path) -> TextIO:
    """Opens a text file to add lines to: on a disk each is written at once, on S3 all are when it is closed.

    Raises OSError; closing raises DataError when S3 refuses.
    """
    return store_of(path).open_lines(path)


def follow_lines(path: Path) -> LineTail:
    """Follows a file of records from its present end on."""
    return store_of(path).follow_lines(path)


def growing_folder(folder: Path) -> GrowingFolder:
    """A local folder in which files grow that are found in ``folder``, at once or when they are sent."""
    return store_of(folder).growing_folder(folder)


def local_folder(folder: Path) -> Path:
    """A local folder for what belongs to ``folder`` and need not survive: itself, or a temporary one."""
    return store_of(folder).local_folder(folder)


def make_unfinished(beside: Path, *, prefix: str) -> Path:
    """Makes an empty local folder, which ``move_folder`` puts into ``beside`` once it is written."""
    return store_of(beside).make_unfinished(beside, prefix=prefix)


def remove_unfinished(beside: Path, *, prefix: str) -> None:
    """Removes what killed processes left of such folders."""
    for folder in store_of(beside).unfinished(beside, prefix=prefix):
        shutil.rmtree(folder, ignore_errors=True)


def provisional(folder: Path, *, takes_over: bool = False) -> AbstractContextManager[set[Path]]:
    """Yields a set of files and folders; those that it holds at the end of the block are removed.

    So is what is half written in ``folder``, of before the block too where this run ``takes_over`` from a
    killed one.

    On S3 they stay: what names them may have been written although no answer came.
    """
    return store_of(folder).provisional(folder, takes_over=takes_over)


def sole_writer(folder: Path, *, option: str) -> AbstractContextManager[None]:
    """Keeps other commands from writing into ``folder`` while the block runs.

    A lock on a disk ends with its process, however that ends; on S3 it is a lease, free a minute after.
    ``option`` is the one that names the folder.

    Raises:
        ConfigError: Another command writes there, or the file system has no locks.
        DataError: S3 cannot be used, or its lease was lost and the block has been interrupted.
    """
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    return store_of(folder).hold_lock(folder / LOCK, owner=owner, option=option)


def check_writable(folder: Path, *, option: str) -> None:
    """Raises ConfigError where no file can be written below a folder of this machine; leaves nothing there.

    ``option`` is the one that names the folder. Commands ask before they compute for minutes what they could
    not keep.
    """
    try:
        store_of(folder).try_to_write(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{option}: got {folder}, which leads to a file; expected a folder.") from error
    except OSError as error:
        raise ConfigError(
            f"{option}: got {folder}, where nothing can be written ({error.strerror}). Make room there, have "
            "its owner changed, or name another place."
        ) from error


def free_bytes(folder: Path) -> int | None:
    """Bytes that the file system of a folder has left; None where there is no limit."""
    return store_of(folder).free_bytes(folder)

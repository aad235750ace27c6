"""Implements the functions of `pbrlib.storage` for local paths."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

from pbrlib.errors import DataError, outage_or
from pbrlib.storage.growing import GrowingFolder
from pbrlib.storage.lines import LineTail, open_for_lines
from pbrlib.storage.lock import hold_file_lock
from pbrlib.storage.swap import finish_swap, swap_in

_TEST_BYTES = 2**20
_PARTIAL = ".partial-"
"""Prefix of the name of a file while it is being written."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file in the same folder and rename it."""
    with staged(path) as partial:
        partial.write_bytes(data)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a file in the folder of the target, which is synced and renamed at the end of the block."""
    import pyarrow as pa

    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        yield partial
        _sync(partial)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
        _sync(path.parent)
    except (OSError, pa.ArrowException) as error:
        raise outage_or(DataError, error)(
            f"{path}: cannot be written ({error}). Free space, or give another path."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def put_file(source: Path, target: Path) -> None:
    """Copy to a file in the folder of the target and rename it."""
    with staged(target) as partial:
        shutil.copyfile(source, partial)


def fetched(path: Path) -> AbstractContextManager[Path]:
    """Yield the file itself."""
    return nullcontext(path)


def fetched_folder(folder: Path) -> AbstractContextManager[Path]:
    """Yield the folder itself."""
    return nullcontext(folder)


def move_folder(source: Path, target: Path, *, last: str) -> None:
    """Sync the new folder, remove the old one, and rename the new one."""
    # Content is synced before its folder, so that after a power cut no folder lists missing files.
    for path in sorted([source, *source.rglob("*")], reverse=True):
        _sync(path)
    remove_folder(target, first=last)
    shutil.move(source, str(target))
    _sync(target.parent)


def replace_folder(source: Path, target: Path, *, last: str) -> None:
    """Exchange the names of the folders; only S3 uses ``last``."""
    swap_in(source, target)


def recover_folder(target: Path, *, last: str) -> None:
    """Rename the old folder back if it still has its temporary name."""
    finish_swap(target)


def remove_folder(folder: Path, *, first: str | None) -> None:
    """Remove the file ``first``, then the folder."""
    if first is not None:
        (folder / first).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def snapshot(folder: Path) -> AbstractContextManager[None]:
    """Do nothing, since a disk needs no cached listing."""
    return nullcontext()


def open_arrow(path: Path) -> Any:
    """Map the file into memory."""
    import pyarrow as pa

    return pa.memory_map(str(path))


def arrow_filesystem(path: Path) -> tuple[Any, str]:
    """Return Arrow's local file system."""
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem(), str(path)


def append_lines(path: Path, text: str) -> None:
    """Open the file and append the lines."""
    with open_for_lines(path) as file:
        file.write(text)


def open_lines(path: Path) -> TextIO:
    """Open the file itself; every line is written at once."""
    return open_for_lines(path)


def follow_lines(path: Path) -> LineTail:
    """Return a reader that reads new lines at every call."""
    return LineTail(path)


def growing_folder(folder: Path) -> GrowingFolder:
    """Return the folder itself."""
    return GrowingFolder(folder)


def local_folder(folder: Path) -> Path:
    """Return the folder itself."""
    return folder


def make_unfinished(parent: Path, *, prefix: str) -> Path:
    """Create a folder in ``parent``, so that it can be renamed."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    made.chmod(0o777 & ~_umask())
    return made


def unfinished(parent: Path, *, prefix: str) -> list[Path]:
    """Return the folders of ``make_unfinished`` in ``parent``."""
    return list(parent.glob(f"{prefix}*"))


@contextmanager
def provisional(folder: Path, *, takes_over: bool) -> Iterator[set[Path]]:
    """Yield a set; at the end of the block, remove its elements and files with names of incomplete ones."""
    others = set() if takes_over else set(folder.glob(f"{_PARTIAL}*"))
    written: set[Path] = set()
    try:
        yield written
    finally:
        for path in (set(folder.glob(f"{_PARTIAL}*")) - others) | written:
            if path.is_dir():
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink(missing_ok=True)


def hold_lock(path: Path, *, owner: str, option: str) -> AbstractContextManager[None]:
    """Hold a file lock."""
    return hold_file_lock(path, owner=owner, option=option)


def try_to_write(folder: Path) -> None:
    """Write an unnamed file, and remove the folders that were created for it."""
    made: list[Path] = []
    try:
        made += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=_PARTIAL, dir=folder) as file:
            file.write(bytes(_TEST_BYTES))
            file.flush()
            os.fsync(file.fileno())  # a network share reports a full disk only on sync
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the file system of the folder, or of its nearest existing parent."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""What `pbrlib.storage` does with a path of this machine."""

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
from pbrlib.storage.lock import locked
from pbrlib.storage.swap import finish_swap, swap_in

_TRIED_BYTES = 2**20
_PARTIAL = ".partial-"
"""How the name of a file begins while it is being written."""


def write_atomic(path: Path, data: bytes) -> None:
    """Writes beside and renames."""
    with staged(path) as partial:
        partial.write_bytes(data)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yields a file beside the target, which is synced and renamed at the end."""
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
            f"{path}: cannot be written ({error}). Free space or choose another place."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def put_file(source: Path, target: Path) -> None:
    """Copies beside and renames."""
    with staged(target) as partial:
        shutil.copyfile(source, partial)


def fetched(path: Path) -> AbstractContextManager[Path]:
    """The file itself."""
    return nullcontext(path)


def fetched_folder(folder: Path) -> AbstractContextManager[Path]:
    """The folder itself."""
    return nullcontext(folder)


def move_folder(source: Path, target: Path, *, last: str) -> None:
    """Syncs, removes the old folder, renames."""
    # What lies below comes first: a folder that survives a power cut names nothing that does not.
    for path in sorted([source, *source.rglob("*")], reverse=True):
        _sync(path)
    remove_folder(target, first=last)
    shutil.move(source, str(target))
    _sync(target.parent)


def replace_folder(source: Path, target: Path, *, last: str) -> None:
    """Exchanges the two names; ``last`` matters on S3 alone."""
    swap_in(source, target)


def recover_folder(target: Path, *, last: str) -> None:
    """Gives the old folder its name again, if it stands aside."""
    finish_swap(target)


def remove_folder(folder: Path, *, first: str | None) -> None:
    """Removes the file ``first``, then the tree."""
    if first is not None:
        (folder / first).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def snapshot(folder: Path) -> AbstractContextManager[None]:
    """Does nothing: a disk answers at once."""
    return nullcontext()


def open_arrow(path: Path) -> Any:
    """Maps the file into memory."""
    import pyarrow as pa

    return pa.memory_map(str(path))


def arrow_filesystem(path: Path) -> tuple[Any, str]:
    """Arrow's own file system of disks."""
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem(), str(path)


def append_lines(path: Path, text: str) -> None:
    """Opens and appends."""
    with open_for_lines(path) as file:
        file.write(text)


def open_lines(path: Path) -> TextIO:
    """Opens the file itself: every line is on disk at once."""
    return open_for_lines(path)


def follow_lines(path: Path) -> LineTail:
    """Reads on whenever it is asked."""
    return LineTail(path)


def growing_folder(folder: Path) -> GrowingFolder:
    """The folder itself."""
    return GrowingFolder(folder)


def local_folder(folder: Path) -> Path:
    """The folder itself."""
    return folder


def make_unfinished(beside: Path, *, prefix: str) -> Path:
    """Makes a folder within ``beside``, so that it can be renamed."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=beside))
    made.chmod(0o777 & ~_umask())
    return made


def unfinished(beside: Path, *, prefix: str) -> list[Path]:
    """The folders within ``beside``."""
    return list(beside.glob(f"{prefix}*"))


@contextmanager
def provisional(folder: Path, *, takes_over: bool) -> Iterator[set[Path]]:
    """Removes whatever is still in the set, and half-written files by their names."""
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
    """A lock of the kernel."""
    return locked(path, owner=owner, option=option)


def try_to_write(folder: Path) -> None:
    """Writes a file without a name, and removes the folders that it has made for it."""
    made: list[Path] = []
    try:
        made += [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=_PARTIAL, dir=folder) as file:
            file.write(bytes(_TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())  # a share says only then that it is full
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


def free_bytes(folder: Path) -> int:
    """What the file system has; of a folder that is not there yet, that of the nearest one above."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


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

"""What a local path and an ``s3://`` address have in common.

`pbrlib.storage.s3` speaks to S3; boto3 is imported when the first S3 location is touched. Paths of either
kind come from `pbrlib.storage.paths`.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from pbrlib.errors import DataError, outage_or
from pbrlib.storage import s3

Location: TypeAlias = str | Path


def is_remote(location: Location) -> bool:
    """Whether the location is an S3 address."""
    return str(location).startswith(s3.SCHEME)


def join(location: Location, *parts: str) -> str:
    """The location of a file below a folder."""
    return "/".join([str(location).rstrip("/"), *parts])


def exists(location: Location) -> bool:
    """Whether there is a file at the location."""
    try:
        size(location)
    except FileNotFoundError:
        return False
    return True


def size(location: Location) -> int:
    """Bytes of the file at the location; raises FileNotFoundError if there is none."""
    if not is_remote(location):
        path = Path(location)
        if not path.is_file():
            raise FileNotFoundError(str(location))
        return path.stat().st_size
    return s3.look(str(location)).size


def read_bytes(location: Location) -> bytes:
    """The whole file; raises FileNotFoundError if there is none, DataError if S3 refuses."""
    if not is_remote(location):
        return Path(location).read_bytes()
    return s3.read(str(location))


def read_range(location: Location, *, start: int, length: int) -> bytes:
    """``length`` bytes from ``start`` (fewer at the end of the file); errors as for ``read_bytes``."""
    if length <= 0:
        return b""
    if not is_remote(location):
        with Path(location).open("rb") as file:
            file.seek(start)
            return file.read(length)
    return s3.read(str(location), start=start, length=length)


def sha256(location: Location) -> str:
    """Hex digest of the file, read in pieces; errors as for ``read_bytes``."""
    digest, piece = hashlib.sha256(), 1 << 24
    for start in range(0, size(location), piece):
        digest.update(read_range(location, start=start, length=piece))
    return digest.hexdigest()


def write_bytes_atomic(location: Location, data: bytes) -> None:
    """Writes a file that is there whole or not at all, even if the machine stops in the middle.

    Raises DataError if it cannot be written.
    """
    if is_remote(location):
        s3.write(str(location), data)
        return
    with staged(location) as path:
        path.write_bytes(data)


def write_text_atomic(location: Location, text: str) -> None:
    """As ``write_bytes_atomic``, in UTF-8."""
    write_bytes_atomic(location, text.encode())


@contextmanager
def staged(location: Location) -> Iterator[Path]:
    """A local path to write to; on success its file moves to the location in one step, else it is gone.

    Raises DataError if the file cannot be written or moved (no space, no permission).
    """
    target = None if is_remote(location) else Path(location)
    partial: Path | None = None
    try:
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        folder = None if target is None else target.parent
        descriptor, name = tempfile.mkstemp(prefix=".partial-", dir=folder)
        os.close(descriptor)
        partial = Path(name)
        yield partial
        if target is None:
            s3.upload(partial, str(location))
        else:
            _sync(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(target)
            _sync(target.parent)
    except (OSError, pa.ArrowException) as error:
        raise outage_or(DataError, error)(
            f"{location}: cannot be written ({error}). Free space or choose another place."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def list_files(location: Location) -> dict[str, int]:
    """Bytes by name of the files directly below a folder, sorted; empty if there is no such folder."""
    if not is_remote(location):
        folder = Path(location)
        files = [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        return {path.name: path.stat().st_size for path in sorted(files)}
    found = s3.children(str(location))
    return {name: entry.size for name, entry in found.items() if entry is not None}


@contextmanager
def fetched(location: Location) -> Iterator[Path]:
    """A file of this machine with the content: the file itself, or a copy of an object for the block.

    Raises FileNotFoundError if there is none, DataError if S3 refuses or the copy has no room.
    """
    if not is_remote(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="pbr-") as folder:
        copy = Path(folder) / str(location).rpartition("/")[2]
        _download(str(location), copy)
        yield copy


@contextmanager
def fetched_folder(location: Location) -> Iterator[Path]:
    """A folder of this machine with everything below the location, as ``fetched``."""
    if not is_remote(location):
        yield Path(location)
        return
    with tempfile.TemporaryDirectory(prefix="pbr-") as name:
        folder = Path(name) / str(location).rstrip("/").rpartition("/")[2]
        folder.mkdir()
        for address in s3.tree(str(location)):
            copy = folder / address.removeprefix(f"{str(location).rstrip('/')}/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            _download(address, copy)
        yield folder


def _download(address: str, copy: Path) -> None:
    try:
        s3.download(address, copy)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(
            f"{address}: cannot be copied to {copy.parent} ({error}). Free space there, or set TMPDIR."
        ) from error


def move_folder(source: Path, target: Location, *, last: str) -> None:
    """Puts a local folder in the place of a target, whose file named ``last`` says that it is whole.

    A reader that looks for that file sees the old folder, none, or the new one, even if the machine stops in
    the middle. Raises DataError when S3 refuses, OSError when the disk does.
    """
    if not is_remote(target):
        # What lies below comes first: a folder that survives a power cut names nothing that does not.
        for path in sorted([source, *source.rglob("*")], reverse=True):
            _sync(path)
        remove_folder(target, first=last)
        shutil.move(source, str(target))
        _sync(Path(target).parent)
        return
    remove_folder(target, first=last)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path == source / last):
        s3.upload(path, join(target, path.relative_to(source).as_posix()))
    shutil.rmtree(source)


def put_file(source: Path, target: Location) -> None:
    """Copies a local file into the place of a target, in one step; raises DataError if it cannot."""
    if is_remote(target):
        s3.upload(source, str(target))
        return
    with staged(target) as partial:
        shutil.copyfile(source, partial)


def remove_folder(location: Location, *, first: str | None = None) -> None:
    """Removes a folder, if it is there, beginning with the file, if there is one, that says that it is whole.

    Raises DataError when S3 refuses, OSError when the disk does.
    """
    if is_remote(location):
        mark = None if first is None else join(location, first)
        s3.remove(sorted(s3.tree(str(location)), key=lambda address: address != mark))
        return
    if first is not None:
        (Path(location) / first).unlink(missing_ok=True)
    if Path(location).exists():
        shutil.rmtree(location)


def as_of_now(location: Location) -> AbstractContextManager[None]:
    """Inside the block, what is asked about names and sizes below a folder of S3 costs one listing in all."""
    return s3.snapshot(str(location)) if is_remote(location) else nullcontext()


def open_input(location: Location) -> Any:
    """The file as a ``pyarrow.NativeFile`` with random access: memory-mapped, or range requests on S3."""
    if not is_remote(location):
        return pa.memory_map(str(location))
    return pa.PythonFile(_RangeFile(location), mode="r")


class _RangeFile(io.RawIOBase):
    """A read-only seekable file of which every read is one range request."""

    def __init__(self, location: Location) -> None:
        self._location = str(location)
        self._size = size(location)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, length: int | None = -1) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if length is None or length < 0 else min(length, left)
        data = read_range(self._location, start=self._position, length=wanted)
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


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

"""Implements the functions of `pbrlib.storage` for paths on S3."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

from pbrlib.errors import DataError, outage_or
from pbrlib.storage import s3listing, s3reading, s3writing
from pbrlib.storage.growing import GrowingFolder, SentFolder
from pbrlib.storage.lease import hold_lease
from pbrlib.storage.lines import LinesOnClose, LineTail, SentLineTail, append_to_object
from pbrlib.storage.lock import wait_remedy


def write_atomic(path: Path, data: bytes) -> None:
    """Put the object in one request."""
    s3writing.write(str(path), data)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a temporary file, which is uploaded at the end of the block."""
    import pyarrow as pa

    try:
        with tempfile.TemporaryDirectory(prefix="pbr-") as folder:
            partial = Path(folder) / path.name
            yield partial
            s3writing.upload(partial, str(path))
    except (OSError, pa.ArrowException) as error:
        raise outage_or(DataError, error)(
            f"{path}: cannot be written ({error}). Free space, or give another path."
        ) from error


def put_file(source: Path, target: Path) -> None:
    """Upload the file."""
    s3writing.upload(source, str(target))


@contextmanager
def fetched(path: Path) -> Iterator[Path]:
    """Yield a temporary copy of the object."""
    with tempfile.TemporaryDirectory(prefix="pbr-") as folder:
        copy = Path(folder) / path.name
        _download(str(path), copy)
        yield copy


@contextmanager
def fetched_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder with copies of all objects below the folder."""
    with tempfile.TemporaryDirectory(prefix="pbr-") as name:
        here = Path(name) / folder.name
        here.mkdir()
        for address in s3listing.tree(str(folder)):
            copy = here / address.removeprefix(f"{folder}/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            _download(address, copy)
        yield here


def _download(address: str, copy: Path) -> None:
    try:
        s3reading.download(address, copy)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(
            f"{address}: cannot be copied to {copy.parent} ({error}). Free space there, or set TMPDIR."
        ) from error


def move_folder(source: Path, target: Path, *, last: str) -> None:
    """Remove the old objects, then upload the files, with ``last`` as the last one."""
    remove_folder(target, first=last)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path == source / last):
        s3writing.upload(path, f"{target}/{path.relative_to(source).as_posix()}")
    shutil.rmtree(source)


def replace_folder(source: Path, target: Path, *, last: str) -> None:
    """Replace the folder as ``move_folder`` does; while files are missing, a marker object is next to it."""
    mark = _mark(target)
    mark.write_text("")
    move_folder(source, target, last=last)
    mark.unlink(missing_ok=True)


def recover_folder(target: Path, *, last: str) -> None:
    """Remove the objects of a folder whose upload did not finish."""
    mark = _mark(target)
    if mark.is_file():
        if not (target / last).is_file():
            remove_folder(target, first=None)
        mark.unlink(missing_ok=True)


def _mark(target: Path) -> Path:
    return target.with_name(f".{target.name}.sending")


def remove_folder(folder: Path, *, first: str | None) -> None:
    """Remove the objects, starting with the file ``first``."""
    mark = None if first is None else f"{folder}/{first}"
    s3writing.remove(sorted(s3listing.tree(str(folder)), key=lambda address: address != mark))


def snapshot(folder: Path) -> AbstractContextManager[None]:
    """List the folder once."""
    return s3listing.snapshot(str(folder))


def open_arrow(path: Path) -> Any:
    """Open a file whose reads are range requests."""
    import pyarrow as pa

    return pa.PythonFile(s3reading.RangeFile(str(path)), mode="r")


def arrow_filesystem(path: Path) -> tuple[Any, str]:
    """Return the file system of `pbrlib.storage.arrow`, which uses boto3."""
    from pbrlib.storage.arrow import bucket_filesystem, key_of

    return bucket_filesystem(), key_of(path)


def append_lines(path: Path, text: str) -> None:
    """Put the object again with the lines added."""
    append_to_object(str(path), text.encode())


def open_lines(path: Path) -> TextIO:
    """Return a file that keeps its lines in memory and appends them to the object on close."""
    return LinesOnClose(str(path))


def follow_lines(path: Path) -> LineTail:
    """Return a reader that requests new lines every few seconds."""
    return SentLineTail(path)


def growing_folder(folder: Path) -> GrowingFolder:
    """Return a temporary folder whose files are uploaded."""
    return SentFolder(folder)


def local_folder(folder: Path) -> Path:
    """Return the folder of temporary files."""
    return Path(tempfile.gettempdir())


def make_unfinished(parent: Path, *, prefix: str) -> Path:
    """Create a folder in the folder of temporary files."""
    return Path(tempfile.mkdtemp(prefix=_local_prefix(parent, prefix)))


def unfinished(parent: Path, *, prefix: str) -> list[Path]:
    """Return the folders of ``make_unfinished`` for ``parent`` in the folder of temporary files."""
    return list(Path(tempfile.gettempdir()).glob(f"{_local_prefix(parent, prefix)}*"))


def _local_prefix(parent: Path, prefix: str) -> str:
    return f"{prefix}{hashlib.sha256(str(parent).encode()).hexdigest()[:16]}-"


@contextmanager
def provisional(folder: Path, *, takes_over: bool) -> Iterator[set[Path]]:
    """Yield a set; nothing is removed, since an object that refers to the files may exist unconfirmed."""
    yield set()


def hold_lock(path: Path, *, owner: str, option: str) -> AbstractContextManager[None]:
    """Hold a lease."""
    return hold_lease(path, owner=owner, remedy=wait_remedy(option))


def try_to_write(folder: Path) -> None:
    """Do nothing: a role may have permission to write objects and none to remove the test object."""


def free_bytes(folder: Path) -> None:
    """Return None, since a bucket has no limit."""

"""What `pbrlib.storage` does with a path that stands for S3."""

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
from pbrlib.storage.lease import leased
from pbrlib.storage.lines import LinesOnClose, LineTail, SentLineTail, append_to_object
from pbrlib.storage.lock import wait_remedy


def write_atomic(path: Path, data: bytes) -> None:
    """One put."""
    s3writing.write(str(path), data)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yields a temporary file, which is sent at the end."""
    import pyarrow as pa

    try:
        with tempfile.TemporaryDirectory(prefix="pbr-") as folder:
            partial = Path(folder) / path.name
            yield partial
            s3writing.upload(partial, str(path))
    except (OSError, pa.ArrowException) as error:
        raise outage_or(DataError, error)(
            f"{path}: cannot be written ({error}). Free space or choose another place."
        ) from error


def put_file(source: Path, target: Path) -> None:
    """Sends the file."""
    s3writing.upload(source, str(target))


@contextmanager
def fetched(path: Path) -> Iterator[Path]:
    """Yields a temporary copy."""
    with tempfile.TemporaryDirectory(prefix="pbr-") as folder:
        copy = Path(folder) / path.name
        _download(str(path), copy)
        yield copy


@contextmanager
def fetched_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary copy of everything below."""
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
    """Removes the old objects, sends the new ones, ``last`` last."""
    remove_folder(target, first=last)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path == source / last):
        s3writing.upload(path, f"{target}/{path.relative_to(source).as_posix()}")
    shutil.rmtree(source)


def replace_folder(source: Path, target: Path, *, last: str) -> None:
    """As ``move_folder``; until it is done, an object beside the target says whose the pieces are."""
    mark = _mark(target)
    mark.write_text("")
    move_folder(source, target, last=last)
    mark.unlink(missing_ok=True)


def recover_folder(target: Path, *, last: str) -> None:
    """Removes the pieces of a folder that was not sent to its end."""
    mark = _mark(target)
    if mark.is_file():
        if not (target / last).is_file():
            remove_folder(target, first=None)
        mark.unlink(missing_ok=True)


def _mark(target: Path) -> Path:
    return target.with_name(f".{target.name}.sending")


def remove_folder(folder: Path, *, first: str | None) -> None:
    """Removes the objects, the file ``first`` first."""
    mark = None if first is None else f"{folder}/{first}"
    s3writing.remove(sorted(s3listing.tree(str(folder)), key=lambda address: address != mark))


def snapshot(folder: Path) -> AbstractContextManager[None]:
    """Lists the folder once."""
    return s3listing.snapshot(str(folder))


def open_arrow(path: Path) -> Any:
    """A file of which every read is a range request."""
    import pyarrow as pa

    return pa.PythonFile(s3reading.RangeFile(str(path)), mode="r")


def arrow_filesystem(path: Path) -> tuple[Any, str]:
    """A file system of ours, since Arrow's has other credentials and another patience than boto3."""
    from pbrlib.storage.arrow import bucket_filesystem, key_of

    return bucket_filesystem(), key_of(path)


def append_lines(path: Path, text: str) -> None:
    """Puts the object anew with the lines added."""
    append_to_object(str(path), text.encode())


def open_lines(path: Path) -> TextIO:
    """Keeps the lines in memory and adds them when it is closed."""
    return LinesOnClose(str(path))


def follow_lines(path: Path) -> LineTail:
    """Asks every few seconds, and sees what has been sent."""
    return SentLineTail(path)


def growing_folder(folder: Path) -> GrowingFolder:
    """A temporary folder that is sent."""
    return SentFolder(folder)


def local_folder(folder: Path) -> Path:
    """Where this machine keeps temporary files."""
    return Path(tempfile.gettempdir())


def make_unfinished(beside: Path, *, prefix: str) -> Path:
    """Makes a folder among the temporary files of this machine."""
    return Path(tempfile.mkdtemp(prefix=_prefix_here(beside, prefix)))


def unfinished(beside: Path, *, prefix: str) -> list[Path]:
    """The folders among the temporary files of this machine that belong to ``beside``."""
    return list(Path(tempfile.gettempdir()).glob(f"{_prefix_here(beside, prefix)}*"))


def _prefix_here(beside: Path, prefix: str) -> str:
    return f"{prefix}{hashlib.sha256(str(beside).encode()).hexdigest()[:16]}-"


@contextmanager
def provisional(folder: Path, *, takes_over: bool) -> Iterator[set[Path]]:
    """Removes nothing: what S3 did not confirm, such as a manifest that names the files, may be there."""
    yield set()


def hold_lock(path: Path, *, owner: str, option: str) -> AbstractContextManager[None]:
    """A lease."""
    return leased(path, owner=owner, remedy=wait_remedy(option))


def try_to_write(folder: Path) -> None:
    """Does nothing: a role may write objects that it may not remove, and the first to be written says it."""


def free_bytes(folder: Path) -> None:
    """None: a bucket has no end."""

"""Where a local path and an ``s3://`` address meet: nobody else asks which of the two a location is.

S3 goes through boto3 with its standard credential chain and environment (``AWS_ENDPOINT_URL``,
``AWS_PROFILE``, ...); boto3 is imported when the first S3 location is touched.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from pbrlib.errors import DataError

Location: TypeAlias = str | Path

S3_SCHEME = "s3://"
_client_lock = threading.Lock()


def is_remote(location: Location) -> bool:
    """Whether the location is an S3 address."""
    return str(location).startswith(S3_SCHEME)


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
    bucket, key = _bucket_and_key(location)
    with _s3_errors(location):
        return int(_client().head_object(Bucket=bucket, Key=key)["ContentLength"])


def read_bytes(location: Location) -> bytes:
    """The whole file; raises FileNotFoundError if there is none, DataError if S3 refuses."""
    if not is_remote(location):
        return Path(location).read_bytes()
    bucket, key = _bucket_and_key(location)
    with _s3_errors(location):
        body: bytes = _client().get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def read_range(location: Location, *, start: int, length: int) -> bytes:
    """``length`` bytes from ``start`` (fewer at the end of the file); errors as for ``read_bytes``."""
    if length <= 0:
        return b""
    if not is_remote(location):
        with Path(location).open("rb") as file:
            file.seek(start)
            return file.read(length)
    bucket, key = _bucket_and_key(location)
    with _s3_errors(location):
        span = f"bytes={start}-{start + length - 1}"
        body: bytes = _client().get_object(Bucket=bucket, Key=key, Range=span)["Body"].read()
    return body


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
        bucket, key = _bucket_and_key(location)
        with _s3_errors(location):
            _client().put_object(Bucket=bucket, Key=key, Body=data)
        return
    with staged(location) as path:
        path.write_bytes(data)


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
            bucket, key = _bucket_and_key(location)
            with _s3_errors(location):
                _client().upload_file(str(partial), bucket, key)
        else:
            _sync(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(target)
            _sync(target.parent)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
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
    bucket, key = _bucket_and_key(location)
    prefix = key.rstrip("/") + "/" if key else ""
    found: dict[str, int] = {}
    with _s3_errors(location):
        pages = (
            _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        )
        for page in pages:
            found |= {item["Key"].removeprefix(prefix): item["Size"] for item in page.get("Contents", [])}
    return {name: found[name] for name in sorted(found) if name}


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


def _bucket_and_key(location: Location) -> tuple[str, str]:
    bucket, _, key = str(location).removeprefix(S3_SCHEME).partition("/")
    if not bucket:
        raise DataError(f"{location}: names no bucket. Write s3://BUCKET/FOLDER.")
    return bucket, key


@contextmanager
def _s3_errors(location: Location) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NoSuchBucket"):
            raise FileNotFoundError(str(location)) from error
        raise DataError(
            f"{location}: S3 answers: {error}. Check the bucket and your AWS credentials."
        ) from error
    except (BotoCoreError, Boto3Error) as error:
        raise DataError(
            f"{location}: S3 cannot be used: {error}. Check your AWS credentials and region."
        ) from error


def _client() -> Any:
    # boto3 makes clients in a way that is not thread-safe; the clients themselves are.
    with _client_lock:
        return _client_for(os.environ.get("AWS_ENDPOINT_URL"))


@cache
def _client_for(endpoint: str | None) -> Any:
    import boto3

    return boto3.session.Session().client("s3", endpoint_url=endpoint)


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

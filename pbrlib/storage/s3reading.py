"""Reads objects from S3; a truncated response is continued from its last byte.

The client (`pbrlib.storage.s3client`) repeats requests, but not after a response has begun.
"""

from __future__ import annotations

import io
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from pbrlib.errors import OutageError
from pbrlib.storage import s3listing
from pbrlib.storage.s3client import client, max_attempts, pause_s
from pbrlib.storage.s3errors import (
    RangePastEndError,
    ReplacedError,
    TruncatedResponseError,
    split_address,
    translated_errors,
)

_PIECE = 1 << 20
_PART, _PARTS_AT_A_TIME = 1 << 24, 8


def read(address: str, *, start: int = 0, length: int | None = None) -> bytes:
    """Return an object or a range of it, with fewer bytes only at the end of the object.

    Raises FileNotFoundError if there is no object, DataError if S3 refuses or cannot be reached.
    """
    for attempt in itertools.count(1):
        try:
            return _read(address, start=start, length=length)
        except ReplacedError:
            _wait_or_give_up(address, attempt, "the object was replaced while it was read")
    raise AssertionError


def read_dated(address: str) -> tuple[bytes, str, float] | None:
    """Return an object, its etag and its age in seconds by the server's clock; None if there is no object."""
    bucket, key = split_address(address)
    for attempt in itertools.count(1):
        content = bytearray()
        try:
            with translated_errors(address):
                response = client().get_object(Bucket=bucket, Key=key)
                _drain(response["Body"], content)
        except FileNotFoundError:
            return None
        except TruncatedResponseError as cut:
            _wait_or_give_up(address, attempt, str(cut))
            continue
        now = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
        return bytes(content), str(response["ETag"]), (now - response["LastModified"]).total_seconds()
    raise AssertionError


def download(address: str, file: Path) -> None:
    """Download an object to a file in parallel parts; raises the errors of ``read``, and OSError."""
    bucket, key = split_address(address)
    for attempt in itertools.count(1):
        with translated_errors(address):
            head = client().head_object(Bucket=bucket, Key=key)
        try:
            _download_parts(file, address, size=head["ContentLength"], etag=head["ETag"])
            return
        except ReplacedError:
            _wait_or_give_up(address, attempt, "the object was replaced while it was read")


class RangeFile(io.RawIOBase):
    """A read-only seekable file; every read is one range request."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._size = s3listing.head(address).size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position of the next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, length: int | None = -1) -> bytes:
        """Return the next bytes, fewer at the end of the object; raises the errors of ``s3reading.read``."""
        remaining = max(0, self._size - self._position)
        wanted = remaining if length is None or length < 0 else min(length, remaining)
        data = read(self._address, start=self._position, length=wanted) if wanted else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, and return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _read(address: str, *, start: int, length: int | None, etag: str | None = None) -> bytes:
    """Read an object; raises ReplacedError if its etag is not ``etag`` or changes during the read."""
    bucket, key = split_address(address)
    found, attempt = bytearray(), 0
    while True:
        attempt += 1
        request = {"Bucket": bucket, "Key": key, **_range(start + len(found), start, length)}
        try:
            with translated_errors(address):
                response = client().get_object(**request, **({"IfMatch": etag} if etag else {}))
                etag = response["ETag"]
                _drain(response["Body"], found)
            return bytes(found)
        except RangePastEndError:
            return bytes(found)
        except TruncatedResponseError as cut:
            _wait_or_give_up(address, attempt, str(cut))


def _range(first: int, start: int, length: int | None) -> dict[str, str]:
    if length is not None:
        return {"Range": f"bytes={first}-{start + length - 1}"}
    return {"Range": f"bytes={first}-"} if first else {}


def _drain(body: Any, found: bytearray) -> None:
    """Append a response to ``found``; if it ends early, append its bytes and raise TruncatedResponseError."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    before = len(found)
    try:
        for piece in body.iter_chunks(_PIECE):
            found += piece
    except (HTTPClientError, IncompleteReadError, OSError) as error:
        raise TruncatedResponseError(f"the response ended after {len(found) - before} bytes") from error
    except FlexibleChecksumError as error:
        del found[before:]
        raise TruncatedResponseError("the checksum of the response is wrong") from error


def _download_parts(file: Path, address: str, *, size: int, etag: str) -> None:
    def copy(start: int) -> None:
        data = _read(address, start=start, length=min(_PART, size - start), etag=etag)
        os.pwrite(target.fileno(), data, start)

    with file.open("wb") as target, ThreadPoolExecutor(_PARTS_AT_A_TIME) as pool:
        parts = [pool.submit(copy, start) for start in range(0, size, _PART)]
        try:
            for part in parts:
                part.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _wait_or_give_up(address: str, attempt: int, reason: str) -> None:
    if attempt >= max_attempts():
        raise OutageError(
            f"{address}: cannot be read: {reason} (attempt {attempt}, the last). "
            "Check the connection to S3, and run the same command again to resume."
        )
    time.sleep(pause_s(attempt, what=f"{address}: {reason}"))

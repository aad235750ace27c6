"""Reads objects from S3; an answer that is cut off in the middle is read on from where it was cut.

The client (`pbrlib.storage.s3client`) sends requests again, but not after an answer has begun.
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
    CutAnswerError,
    RangePastEndError,
    ReplacedError,
    split_address,
    translated_errors,
)

_PIECE = 1 << 20
_PART, _PARTS_AT_A_TIME = 1 << 24, 8


def read(address: str, *, start: int = 0, length: int | None = None) -> bytes:
    """An object, or a part of it (fewer bytes at its end); never less because a connection was cut.

    Raises FileNotFoundError if there is none, DataError if S3 refuses or cannot be reached.
    """
    for attempt in itertools.count(1):
        try:
            return _read(address, start=start, length=length)
        except ReplacedError:
            _wait_or_give_up(address, attempt, "it was replaced while it was read")
    raise AssertionError


def read_dated(address: str) -> tuple[bytes, str, float] | None:
    """An object, its etag and its age in seconds by the clock of the server; None if there is none."""
    bucket, key = split_address(address)
    for attempt in itertools.count(1):
        content = bytearray()
        try:
            with translated_errors(address):
                answer = client().get_object(Bucket=bucket, Key=key)
                _drain(answer["Body"], content)
        except FileNotFoundError:
            return None
        except CutAnswerError as cut:
            _wait_or_give_up(address, attempt, str(cut))
            continue
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return bytes(content), str(answer["ETag"]), (now - answer["LastModified"]).total_seconds()
    raise AssertionError


def download(address: str, file: Path) -> None:
    """Gets an object into a file, several parts at a time; errors as for ``read``, OSError for the file's."""
    bucket, key = split_address(address)
    for attempt in itertools.count(1):
        with translated_errors(address):
            head = client().head_object(Bucket=bucket, Key=key)
        try:
            _fill(file, address, size=head["ContentLength"], etag=head["ETag"])
            return
        except ReplacedError:
            _wait_or_give_up(address, attempt, "it was replaced while it was read")


class RangeFile(io.RawIOBase):
    """A read-only seekable file of which every read is one range request."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._size = s3listing.head(address).size
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Sets the position of the next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, length: int | None = -1) -> bytes:
        """The next bytes, fewer at the end of the object; errors as for ``s3reading.read``."""
        left = max(0, self._size - self._position)
        wanted = left if length is None or length < 0 else min(length, left)
        data = read(self._address, start=self._position, length=wanted) if wanted else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """As ``read``, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _read(address: str, *, start: int, length: int | None, etag: str | None = None) -> bytes:
    """Reads one object, that of ``etag`` if one is given; raises ReplacedError when it is gone."""
    bucket, key = split_address(address)
    found, attempt = bytearray(), 0
    while True:
        attempt += 1
        request = {"Bucket": bucket, "Key": key, **_range(start + len(found), start, length)}
        try:
            with translated_errors(address):
                answer = client().get_object(**request, **({"IfMatch": etag} if etag else {}))
                etag = answer["ETag"]
                _drain(answer["Body"], found)
            return bytes(found)
        except RangePastEndError:
            return bytes(found)
        except CutAnswerError as cut:
            _wait_or_give_up(address, attempt, str(cut))


def _range(first: int, start: int, length: int | None) -> dict[str, str]:
    if length is not None:
        return {"Range": f"bytes={first}-{start + length - 1}"}
    return {"Range": f"bytes={first}-"} if first else {}


def _drain(body: Any, found: bytearray) -> None:
    """Adds a whole answer to ``found``; raises CutAnswerError when it ends early, with what came added."""
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    before = len(found)
    try:
        for piece in body.iter_chunks(_PIECE):
            found += piece
    except (HTTPClientError, IncompleteReadError, OSError) as error:
        raise CutAnswerError(f"the answer was cut off after {len(found) - before} bytes") from error
    except FlexibleChecksumError as error:
        del found[before:]
        raise CutAnswerError("the answer was damaged on its way") from error


def _fill(file: Path, address: str, *, size: int, etag: str) -> None:
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
            "Look at the connection to S3; the same command resumes."
        )
    time.sleep(pause_s(attempt, what=f"{address}: {reason}"))

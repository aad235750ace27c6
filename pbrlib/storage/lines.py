"""Text files to which several processes append lines; a kill or a full disk may truncate a line."""

from __future__ import annotations

import io
import json
import math
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from pbrlib.errors import DataError, OutageError
from pbrlib.storage import s3reading, s3writing

_PUTS = 8
"""Number of attempts to append lines to an object that other processes append to."""

POLL_S = 5.0
"""Interval in which a follower of an object requests new lines from S3."""


def open_for_lines(path: Path) -> TextIO:
    """Open or create a text file to append lines, each of which is written at once.

    A truncated last line is ended first, so that it does not damage the next one. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a", buffering=1)
    try:
        if not _ends_a_line(path):
            file.write("\n")
    except OSError:
        file.close()
        raise
    return file


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def append_to_object(address: str, added: bytes) -> None:
    """Append lines to an object by a conditional put, and repeat it if another process was faster.

    If two processes append equal lines at once, one may be lost. Raises DataError if S3 refuses.
    """
    known = 0
    for attempt in range(_PUTS):
        before, etag, _ = s3reading.read_dated(address) or (b"", None, 0.0)
        if attempt > 0 and before[known:].startswith(added):
            return  # the put succeeded and its response was lost
        if s3writing.write_if(address, before + added, etag=etag) is not None:
            return
        known = len(before)
        time.sleep(random.uniform(0.0, 0.05 * 2**attempt))  # noqa: S311  # so that two writers do not collide again
    raise OutageError(
        f"{address}: S3 has refused {_PUTS} puts, since other processes append lines to the object too. "
        "Run the command again."
    )


def records(lines: Iterable[str | bytes]) -> list[dict[str, Any]]:
    """Return the JSON mappings among lines, without truncated ones."""
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the JSON mappings of a file, one per line; an empty list if there is no file."""
    return records(path.read_bytes().split(b"\n")) if path.exists() else []


class LinesOnClose(io.StringIO):
    """Lines in memory that are appended to an object on close."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def close(self) -> None:
        """Append the lines to the object; raises DataError if S3 refuses."""
        if not self.closed:
            added = self.getvalue()
            super().close()
            append_to_object(self._address, added.encode())


class LineTail:
    """Follows the records that are appended to a file; a file that was replaced is read from its start."""

    def __init__(self, path: Path) -> None:
        self._path, self._position, self._identity = path, 0, -1
        # Existing lines belong to an earlier attempt.
        self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """Return the records of complete lines since the last call, in order."""
        return records(self._read())

    def _read(self) -> list[bytes]:
        if not self._path.is_file():
            return []
        status = self._path.stat()
        if status.st_ino != self._identity or status.st_size < self._position:
            self._identity, self._position = status.st_ino, 0
        text = self._read_range(self._position, status.st_size)
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.splitlines()

    def _read_range(self, start: int, stop: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class SentLineTail(LineTail):
    """Follows the records of an object on S3, with one request in ``POLL_S``."""

    def __init__(self, path: Path) -> None:
        self._asked = -math.inf
        super().__init__(path)

    def lines(self) -> list[dict[str, Any]]:
        """Return the records of complete lines since the last successful request."""
        if time.monotonic() - self._asked < POLL_S:
            return []
        self._asked = time.monotonic()
        try:
            return [json.loads(line) for line in self._read()]
        except DataError:
            # The next request may succeed; errors of S3 are reported by the writer.
            return []
        except ValueError:
            # Between two calls the file was replaced, and the new one is longer than the position.
            self._position = 0
            return []

    def _read_range(self, start: int, stop: int) -> bytes:
        return s3reading.read(str(self._path), start=start, length=stop - start) if start < stop else b""

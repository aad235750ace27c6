"""Files of lines to which several processes add; a kill or a full disk may cut a line short."""

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
"""So often lines are put into an object to which others add."""

POLL_S = 5.0
"""How often who follows an object asks S3 for more."""


def open_for_lines(path: Path) -> TextIO:
    """A text file on disk to add lines to, each written at once; made if need be.

    A last line that was cut short is ended first, so that it spoils no other. Raises OSError.
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
    """Puts the object anew with the lines added, and tries again where another writer was quicker.

    Of equal lines that two add at once, one may be left out. Raises DataError when S3 refuses.
    """
    known = 0
    for attempt in range(_PUTS):
        before, etag, _ = s3reading.read_dated(address) or (b"", None, 0.0)
        if attempt > 0 and before[known:].startswith(added):
            return  # it went through; the answer was lost
        if s3writing.write_if(address, before + added, etag=etag) is not None:
            return
        known = len(before)
        time.sleep(random.uniform(0.0, 0.05 * 2**attempt))  # noqa: S311  # so that two do not meet again
    raise OutageError(f"{address}: S3 has refused {_PUTS} puts, since others add lines to it.")


def records(lines: Iterable[str | bytes]) -> list[dict[str, Any]]:
    """The JSON mappings among lines; one that was cut short is none."""
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
    """The mappings of a file with one in each line; none where there is no file."""
    return records(path.read_bytes().split(b"\n")) if path.exists() else []


class LinesOnClose(io.StringIO):
    """Lines in memory, which are added to an object when it is closed."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def close(self) -> None:
        """Adds the lines; raises DataError when S3 refuses."""
        if not self.closed:
            added = self.getvalue()
            super().close()
            append_to_object(self._address, added.encode())


class LineTail:
    """Reads the records that are added to a file; one that was begun anew is read from its start."""

    def __init__(self, path: Path) -> None:
        self._path, self._position, self._identity = path, 0, -1
        # The lines that stand there already belong to an earlier attempt.
        self.lines()

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines since the last call, the oldest first."""
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
    """As ``LineTail`` of an object on S3, which is asked for every few seconds."""

    def __init__(self, path: Path) -> None:
        self._asked = -math.inf
        super().__init__(path)

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines since the last time that S3 was asked and answered."""
        if time.monotonic() - self._asked < POLL_S:
            return []
        self._asked = time.monotonic()
        try:
            return [json.loads(line) for line in self._read()]
        except DataError:
            # What S3 does not give now it gives later; whoever writes there has to complain.
            return []
        except ValueError:
            # Between two calls the file was begun anew and has grown past where it was read.
            self._position = 0
            return []

    def _read_range(self, start: int, stop: int) -> bytes:
        return s3reading.read(str(self._path), start=start, length=stop - start) if start < stop else b""

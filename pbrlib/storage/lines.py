"""Files of lines, to which whoever has something to say adds: a kill or a full disk may cut one short."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from pbrlib.errors import OutageError
from pbrlib.storage import s3
from pbrlib.storage.files import Location, is_remote

_PUTS = 8
"""So often lines are put into an object to which others add."""


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


def append(location: Location, text: str) -> None:
    """Adds lines to a text file, which is made if need be; several processes may add to it.

    Raises DataError when S3 refuses, OSError when the disk does.
    """
    if not is_remote(location):
        with open_for_lines(Path(location)) as file:
            file.write(text)
        return
    _append_to_object(str(location), text.encode())


def _append_to_object(address: str, added: bytes) -> None:
    """Puts the object anew with the lines added, and tries again where another writer was quicker.

    Of equal lines that two add at once, one may be left out.
    """
    known = 0
    for attempt in range(_PUTS):
        before, etag, _ = s3.read_dated(address) or (b"", None, 0.0)
        if attempt > 0 and before[known:].startswith(added):
            return  # it went through; the answer was lost
        if s3.write_if(address, before + added, etag=etag) is not None:
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

"""How a checkpoint tells that its files are those that were written."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.errors import FOR_GOOD, CheckpointError, DamagedCheckpointError, PbrError, outage_or

OWN_SUM = "sha256"
"""The field of ``state.json`` with the sum of all its others."""


@dataclass(frozen=True)
class FileSum:
    """What a file must be: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


def sum_of(file: Path) -> FileSum:
    """What a file is."""
    return FileSum(bytes=file.stat().st_size, sha256=storage.sha256(file))


def sum_of_fields(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def compared(file: Path, *, wanted: FileSum | None) -> Iterator[Path]:
    """A file on this machine, for the block, once it is what was wanted; raises DamagedCheckpointError."""
    with ExitStack() as stack:
        try:
            here = stack.enter_context(storage.fetched(file))
            if wanted is not None and here.stat().st_size != wanted.bytes:
                raise ValueError(f"{here.stat().st_size} bytes instead of {wanted.bytes}")
            if wanted is not None and storage.sha256(here) != wanted.sha256:
                raise ValueError("another SHA-256 than its state names")
        except (OSError, ValueError) as error:
            raise unreadable(file, error) from error
        yield here


def unreadable(file: Path, error: Exception) -> PbrError:
    """Damage, unless a disk or a share says that it cannot be asked now."""
    # A cut archive makes torch seek to before its beginning: EINVAL.
    if isinstance(error, OSError) and error.errno not in (*FOR_GOOD, errno.EINVAL):
        return outage_or(CheckpointError, error)(
            f"{file}: cannot be read now ({error}). Look at its disk and its owner; the same command resumes."
        )
    return DamagedCheckpointError(f"{file}: cannot be read ({error}). Use another checkpoint.")

"""Checksums of a checkpoint's files."""

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
from pbrlib.errors import PERMANENT_ERRNOS, CheckpointError, DamagedCheckpointError, PbrError, outage_or

OWN_SUM = "sha256"
"""The field of ``state.json`` with the checksum of all other fields."""


@dataclass(frozen=True)
class FileSum:
    """The checksum of a file: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


def checksum_of(file: Path) -> FileSum:
    """Compute the checksum of a file."""
    return FileSum(bytes=file.stat().st_size, sha256=storage.sha256(file))


def sum_of_fields(fields: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of the canonical JSON of some fields."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def verified_file(file: Path, *, wanted: FileSum | None) -> Iterator[Path]:
    """Provide a file locally for the block after verifying its checksum; raises DamagedCheckpointError."""
    with ExitStack() as stack:
        try:
            here = stack.enter_context(storage.fetched(file))
            if wanted is not None and here.stat().st_size != wanted.bytes:
                raise ValueError(f"got {here.stat().st_size} bytes; expected {wanted.bytes}")
            if wanted is not None and storage.sha256(here) != wanted.sha256:
                raise ValueError("its SHA-256 differs from the one in the state")
        except (OSError, ValueError) as error:
            raise read_error(file, error) from error
        yield here


def read_error(file: Path, error: Exception) -> PbrError:
    """Return the error for a file that cannot be read: damaged, or temporarily not available."""
    # torch seeks to before the beginning of a truncated archive, which gives EINVAL.
    if isinstance(error, OSError) and error.errno not in (*PERMANENT_ERRNOS, errno.EINVAL):
        return outage_or(CheckpointError, error)(
            f"{file}: cannot be read now ({error}). Check disk and permissions; the same command resumes."
        )
    return DamagedCheckpointError(f"{file}: cannot be read ({error}). Use another checkpoint.")

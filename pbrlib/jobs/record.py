"""The record of a finished job, beside its files: by it the next run of the same command skips the job."""

from __future__ import annotations

import hashlib
import json
import re
import traceback
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pbrlib import storage
from pbrlib.errors import PbrError, first_line
from pbrlib.jobs.job import Done, Failure, Job, Left, Outcome
from pbrlib.spec import Spec

RECORDS = ".jobs"
"""The folder of the records below the root of a run."""


class _File(Spec):
    """A file of a job as it was when the job ended; ``modified`` is its time of change in seconds."""

    path: str
    bytes: int
    sha256: str
    modified: float


class _Content(Spec):
    name: str
    fingerprint: str
    files: tuple[_File, ...]
    result: dict[str, Any]


class _Record(Spec):
    """``sha256`` is that of the content: a damaged record is none."""

    content: _Content
    sha256: str


def standing(job: Job, *, root: Path) -> Done | None:
    """The outcome of a job that is done already.

    A file is taken for what was written if it has the recorded size and time of change, or, where the time
    differs as after copying, the recorded SHA-256.

    Args:
        job: The job.
        root: The folder that its files lie below, local or on S3.

    Returns:
        None if there is no record, it is damaged or has another fingerprint, or a file is missing or differs.
    """
    content = _read(job, root)
    if content is None or (content.name, content.fingerprint) != (job.name, job.fingerprint):
        return None
    if not all(_stands(file, root) for file in content.files):
        return None
    return Done(job.name, content.result, kept=True)


def carry_out(job: Job, *, root: Path) -> Outcome:
    """Runs a job in this process and writes its record, last; whatever it raises is a Failure."""
    try:
        left = job.run()
        return Done(job.name, _write(job, left, root).result)
    except PbrError as error:
        return Failure(job.name, "refused", str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Failure(job.name, "defect", reason, traceback.format_exc())


def has_records(root: Path) -> bool:
    """Whether a run below the root has finished a job, and its records are still there."""
    return bool(storage.file_sizes(root / RECORDS))


def remove_records(root: Path) -> None:
    """Removes the records of a run whose files are no longer its own, for one because they are published."""
    storage.remove_folder(root / RECORDS)


def _place(job: Job, root: Path) -> Path:
    """The file of a record: a name may hold what no file name may, and be as long as it likes."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", job.name)[-60:]
    return root / RECORDS / f"{readable}-{hashlib.sha256(job.name.encode()).hexdigest()[:16]}.json"


def _read(job: Job, root: Path) -> _Content | None:
    try:
        record = _Record.model_validate_json(_place(job, root).read_bytes())
    except (OSError, ValidationError):
        return None
    return record.content if record.sha256 == _digest(record.content) else None


def _write(job: Job, left: Left, root: Path) -> _Content:
    content = _Content(
        name=job.name,
        fingerprint=job.fingerprint,
        files=tuple(_look(path, root) for path in left.files),
        # As the next run will read it.
        result=json.loads(json.dumps(left.result, allow_nan=False)),
    )
    record = _Record(content=content, sha256=_digest(content))
    storage.write_atomic(_place(job, root), record.model_dump_json(indent=1) + "\n")
    return content


def _look(path: str, root: Path) -> _File:
    where = root / path
    found = where.stat()
    return _File(
        path=path, bytes=found.st_size, sha256=storage.sha256(where), modified=round(found.st_mtime, 6)
    )


def _stands(file: _File, root: Path) -> bool:
    where = root / file.path
    try:
        found = where.stat()
        if found.st_size != file.bytes:
            return False
        return round(found.st_mtime, 6) == file.modified or storage.sha256(where) == file.sha256
    except OSError:
        return False


def _digest(content: _Content) -> str:
    return hashlib.sha256(content.model_dump_json().encode()).hexdigest()

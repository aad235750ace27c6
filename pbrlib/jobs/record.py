"""Records of finished jobs, by which the next run of the same command skips them."""

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
from pbrlib.jobs.job import Failure, Job, JobOutput, Outcome, Success
from pbrlib.spec import Spec

RECORDS = ".jobs"
"""The name of the folder of records in the root of a run."""


class _File(Spec):
    """A file at the end of its job; ``modified`` is its modification time in seconds since the epoch."""

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
    """A record with the SHA-256 of its content; a record with another SHA-256 is damaged and ignored."""

    content: _Content
    sha256: str


def finished_outcome(job: Job, *, root: Path) -> Success | None:
    """Return the recorded outcome of a job that an earlier run finished, or None.

    A file is unchanged if it has the recorded size and modification time. If only the time differs, as after
    copying, the SHA-256 is compared.

    Args:
        job: The job.
        root: The folder that contains its files, local or on S3.

    Returns:
        None if there is no record, the record is damaged or has another fingerprint, or a file is missing or
        changed.
    """
    content = _read(job, root)
    if content is None or (content.name, content.fingerprint) != (job.name, job.fingerprint):
        return None
    if not all(_is_unchanged(file, root) for file in content.files):
        return None
    return Success(job.name, content.result, reused=True)


def run_job(job: Job, *, root: Path) -> Outcome:
    """Run a job in this process and then write its record; an error of the job is returned as a Failure."""
    try:
        output = job.run()
        return Success(job.name, _write(job, output, root).result)
    except PbrError as error:
        return Failure(job.name, "refused", str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Failure(job.name, "defect", reason, traceback.format_exc())


def has_records(root: Path) -> bool:
    """Whether the root of a run has records of finished jobs."""
    return bool(storage.file_sizes(root / RECORDS))


def remove_records(root: Path) -> None:
    """Remove the records of a run, for example after its files are published."""
    storage.remove_folder(root / RECORDS)


def _record_path(job: Job, root: Path) -> Path:
    """Return the file of a record; a job's name may be too long, or have characters that no file name has."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "_", job.name)[-60:]
    return root / RECORDS / f"{readable}-{hashlib.sha256(job.name.encode()).hexdigest()[:16]}.json"


def _read(job: Job, root: Path) -> _Content | None:
    try:
        record = _Record.model_validate_json(_record_path(job, root).read_bytes())
    except (OSError, ValidationError):
        return None
    return record.content if record.sha256 == _digest(record.content) else None


def _write(job: Job, output: JobOutput, root: Path) -> _Content:
    content = _Content(
        name=job.name,
        fingerprint=job.fingerprint,
        files=tuple(_describe_file(path, root) for path in output.files),
        # Convert the result to JSON and back, so that this run returns what the next run will read.
        result=json.loads(json.dumps(output.result, allow_nan=False)),
    )
    record = _Record(content=content, sha256=_digest(content))
    storage.write_atomic(_record_path(job, root), record.model_dump_json(indent=1) + "\n")
    return content


def _describe_file(path: str, root: Path) -> _File:
    file = root / path
    status = file.stat()
    return _File(
        path=path, bytes=status.st_size, sha256=storage.sha256(file), modified=round(status.st_mtime, 6)
    )


def _is_unchanged(file: _File, root: Path) -> bool:
    path = root / file.path
    try:
        status = path.stat()
        if status.st_size != file.bytes:
            return False
        return round(status.st_mtime, 6) == file.modified or storage.sha256(path) == file.sha256
    except OSError:
        return False


def _digest(content: _Content) -> str:
    return hashlib.sha256(content.model_dump_json().encode()).hexdigest()

"""Types for a job, the output of its function, and its outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pbrlib.errors import DataError

FailureKind: TypeAlias = Literal["refused", "killed", "defect"]


@dataclass(frozen=True)
class Resources:
    """The resources of a cluster that a job reserves while it runs.

    Attributes:
        num_cpus: Logical CPUs, more than 0, since they limit the number of jobs in flight.
        num_gpus: GPUs; with a fraction, several jobs share a GPU.
        memory: Bytes; 0 reserves no memory.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory: int = 0

    def __post_init__(self) -> None:
        assert self.num_cpus > 0, f"num_cpus: got {self.num_cpus}; expected more than 0"


@dataclass(frozen=True)
class JobOutput:
    """The return value of the function of a job.

    Attributes:
        files: The written files, as paths relative to the root of the run.
        result: A small summary of the files for the caller, of JSON types.
    """

    files: tuple[str, ...]
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A piece of work that no other job depends on.

    Attributes:
        name: A name that is unique in a run, and the same in the next run of the same command.
        fingerprint: A hash of everything that the files depend on; the function `fingerprint` computes it.
        run: Writes the files. It can be pickled, so that another process can call it, and called again after
            a kill at any moment.
        resources: The resources that the job needs.
    """

    name: str
    fingerprint: str
    run: Callable[[], JobOutput]
    resources: Resources = Resources()


@dataclass(frozen=True)
class Success:
    """A finished job; ``reused`` if an earlier run wrote its files."""

    name: str
    result: Mapping[str, Any]
    reused: bool = False


class DefectError(Exception):
    """A job raised an error that is not a PbrError, which is a defect; the message is the traceback."""


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes:
        name: The name of the job.
        kind: ``refused``: its function raised a PbrError. ``killed``: its process ended before it returned.
            ``defect``: its function raised another error.
        reason: A sentence for the user.
        traceback: The traceback of a defect, else empty.
    """

    name: str
    kind: FailureKind
    reason: str
    traceback: str = ""

    def error(self) -> Exception:
        """Return the error to raise if this failure ends the run."""
        return DefectError(self.traceback) if self.kind == "defect" else DataError(self.reason)


Outcome: TypeAlias = Success | Failure


def describe_failures(failures: Sequence[Failure]) -> str:
    """Return one line for each failure, followed by the tracebacks of defects."""
    lines = [f"left out: {failure.name}: {failure.reason}" for failure in failures]
    return "\n".join([*lines, *(failure.traceback for failure in failures if failure.traceback)])


def fingerprint(*parts: Any) -> str:
    """Return the SHA-256 of JSON values and of the source code of pbrlib.

    The source code is included so that another version of pbrlib repeats a job.
    """
    text = json.dumps([_code(), *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> str:
    """Return the SHA-256 of the source files of pbrlib; takes 10 ms."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()

"""One job, what its function returns, and how it ended."""

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
    """What a job holds of a cluster while it runs.

    Attributes:
        num_cpus: Logical CPUs, more than 0: they bound how many jobs are in flight.
        num_gpus: GPUs; a share of one lets several jobs use it.
        memory: Bytes; 0 reserves none.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory: int = 0

    def __post_init__(self) -> None:
        assert self.num_cpus > 0, f"num_cpus is {self.num_cpus}"


@dataclass(frozen=True)
class Left:
    """What the function of a job returns.

    Attributes:
        files: The files that it has written, as paths below the root of the run.
        result: What the caller wants to know without opening them: small, and of JSON's types.
    """

    files: tuple[str, ...]
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A piece of work that no other piece waits for.

    Attributes:
        name: Unique in a run; the same in the next run of the same command.
        fingerprint: Changes with everything that the files depend on, see `fingerprint`.
        run: Writes the files. Pickles, so that another process can call it; may be called again after it
            was killed at any moment.
        resources: What it needs.
    """

    name: str
    fingerprint: str
    run: Callable[[], Left]
    resources: Resources = Resources()


@dataclass(frozen=True)
class Done:
    """A job whose files stand; ``kept`` if they stood before this run."""

    name: str
    result: Mapping[str, Any]
    kept: bool = False


class DefectError(Exception):
    """An error of ours in a job: the message is its traceback. No mistake of the user."""


@dataclass(frozen=True)
class Failure:
    """A job that left no result.

    Attributes:
        name: Of the job.
        kind: ``refused``: its function raised a PbrError. ``killed``: its process ended before it returned.
            ``defect``: its function raised anything else.
        reason: One sentence for the user.
        traceback: Of a defect.
    """

    name: str
    kind: FailureKind
    reason: str
    traceback: str = ""

    def error(self) -> Exception:
        """The error to raise where this failure ends the whole run."""
        return DefectError(self.traceback) if self.kind == "defect" else DataError(self.reason)


Outcome: TypeAlias = Done | Failure


def describe_failures(failures: Sequence[Failure]) -> str:
    """One line for each failure, then the tracebacks of defects."""
    lines = [f"left out: {failure.name}: {failure.reason}" for failure in failures]
    return "\n".join([*lines, *(failure.traceback for failure in failures if failure.traceback)])


def fingerprint(*parts: Any) -> str:
    """SHA-256 of values of JSON's types and of pbrlib's source code: another version does a job again."""
    text = json.dumps([_code(), *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> str:
    """SHA-256 of the source files of pbrlib, in 10 ms."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()

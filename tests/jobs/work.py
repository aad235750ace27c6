"""Jobs for tests, in a module that Ray's workers can import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pbrlib.errors import DataError
from pbrlib.jobs.job import Job, JobOutput


def job(name: str, run: Callable[[], JobOutput], fingerprint: str = "1") -> Job:
    return Job(name, fingerprint, run)


def writing(root: Path, name: str, *, text: str = "text", fingerprint: str = "1") -> Job:
    return job(name, partial(write, root, name, text), fingerprint)


def write(root: Path, name: str, text: str) -> JobOutput:
    """Write a file of the job, and append a line to ``calls``, which belongs to no job."""
    with (root / "calls").open("a") as calls:
        calls.write(f"{name}\n")
    file = f"out/{name}.txt"
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)
    return JobOutput((file,), {"length": len(text), "parts": (1, 2)})


def calls(root: Path) -> list[str]:
    file = root / "calls"
    return file.read_text().splitlines() if file.exists() else []


def refuse(reason: str) -> JobOutput:
    raise DataError(reason)


def divide(root: Path, name: str) -> JobOutput:
    with (root / "calls").open("a") as file:
        file.write(f"{name}\n")
    return JobOutput((), {"quotient": 1 / 0})


def die(root: Path, name: str, times: int, by: int = signal.SIGKILL) -> JobOutput:
    """Kill the process in the first calls, as a decoder with a bug or a lost node does."""
    write(root, name, "half")
    if calls(root).count(name) <= times:
        os.kill(os.getpid(), by)
    return write(root, name, "text")


def write_slowly(root: Path, name: str, seconds: float) -> JobOutput:
    """Append a line to the file every tenth of a second."""
    file = root / f"{name}.txt"
    for number in range(round(seconds * 10)):
        with file.open("a") as lines:
            lines.write(f"{number}\n")
        time.sleep(0.1)
    return JobOutput((file.name,), {})


def leave_nothing() -> JobOutput:
    return JobOutput((), {})


def leave_resources() -> JobOutput:
    """Return the resources that Ray assigned to the process."""
    import ray

    return JobOutput((), ray.get_runtime_context().get_assigned_resources())

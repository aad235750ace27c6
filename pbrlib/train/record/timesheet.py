"""The time sheet of a phase, ``time.jsonl``, an append-only file that also covers repeated steps.

The journal drops the steps that a failure has lost, but their time was spent, so times have a file of their
own. `pbrlib.runs.walltime` reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pbrlib import storage
from pbrlib.errors import DataError

TIME_SHEET = "time.jsonl"

Entry = Literal["launched", "starting", "begun", "spent", "ended", "stopped"]
"""``launched``, ``ended`` and, where an error ends it, ``stopped`` come from the command; ``begun`` and
``spent`` from rank 0: with the first batch of an attempt, and with what went elsewhere than into steps.
``starting`` names a stage between ``launched`` and ``begun``."""

Stage = Literal["workers", "program", "networks", "first batch"]
"""What an attempt does before its first batch: Ray starts workers and connects them, they import the program,
build networks and read validation textures, and wait for their streams."""

DOES: Mapping[Stage, str] = {
    "workers": "starting workers",
    "program": "loading the program",
    "networks": "building networks",
    "first batch": "waiting for the first batch",
}
"""Description of each stage for display."""


def enter_time(directory: Path, entry: Entry) -> None:
    """Append a line with the time to the time sheet in the folder of a phase."""
    storage.append_lines(directory / TIME_SHEET, time_line(entry))


def enter_stage(directory: Path, stage: Stage) -> None:
    """Add a line when an attempt reaches a stage; a disk or an S3 that is away loses it, and nothing else."""
    line = {"kind": "starting", "at": round(time.time(), 3), "stage": stage}
    with suppress(OSError, DataError):
        storage.append_lines(directory / TIME_SHEET, json.dumps(line) + "\n")


def time_line(entry: Entry, *, step: int | None = None, aside: Mapping[str, float] | None = None) -> str:
    """Format a line with the time.

    Args:
        entry: What happened.
        step: The number of finished steps.
        aside: Seconds since the line before, by what took them; the rest went into steps.
    """
    rounded = {name: round(seconds, 4) for name, seconds in (aside or {}).items()}
    where = {} if step is None else {"step": step}
    line = {"kind": entry, "at": round(time.time(), 3), **where, **rounded}
    return json.dumps(line) + "\n"

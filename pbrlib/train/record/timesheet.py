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
"""Kinds of lines.

Attributes:
    launched: The command starts an attempt.
    starting: A stage between ``launched`` and ``begun`` starts.
    begun: Rank 0 has received the first batch of the attempt.
    spent: Rank 0 enters the seconds that were not spent on steps.
    ended: The attempt has ended.
    stopped: The attempt has ended with an error.
"""

Stage = Literal["workers", "program", "networks", "first batch"]
"""Stages of an attempt before its first batch.

Attributes:
    workers: Ray starts the workers and connects them.
    program: The workers import the program.
    networks: The workers build the networks and read the validation textures.
    first batch: The workers wait for their data streams.
"""

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
    """Append a line for a stage of an attempt; if the disk or S3 is not available, the line is dropped."""
    line = {"kind": "starting", "at": round(time.time(), 3), "stage": stage}
    with suppress(OSError, DataError):
        storage.append_lines(directory / TIME_SHEET, json.dumps(line) + "\n")


def time_line(entry: Entry, *, step: int | None = None, non_step: Mapping[str, float] | None = None) -> str:
    """Format a line with the time.

    Args:
        entry: The kind of line.
        step: The number of finished steps.
        non_step: Seconds since the previous line by activity; the remaining time was spent on steps.
    """
    rounded = {name: round(seconds, 4) for name, seconds in (non_step or {}).items()}
    where = {} if step is None else {"step": step}
    line = {"kind": entry, "at": round(time.time(), 3), **where, **rounded}
    return json.dumps(line) + "\n"

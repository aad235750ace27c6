"""The time sheet of a phase, ``time.jsonl``: lines that are only ever added, whatever is done again.

The journal forgets the steps that a fault has lost; the time they took is gone all the same, so it is kept
apart. `pbrlib.runs.walltime` reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pbrlib import storage

TIME_SHEET = "time.jsonl"

Entry = Literal["launched", "begun", "spent", "ended", "stopped"]
"""``launched``, ``ended`` and, where an error ends it, ``stopped`` come from the command; ``begun`` and
``spent`` from rank 0: with the first batch of an attempt, and with what went elsewhere than into steps."""


def enter_time(directory: Path, entry: Entry) -> None:
    """Adds a line with the time of day to the time sheet in the folder of a phase."""
    storage.append_lines(directory / TIME_SHEET, time_line(entry))


def time_line(entry: Entry, *, step: int | None = None, aside: Mapping[str, float] | None = None) -> str:
    """A line with the time of day.

    Args:
        entry: What happened.
        step: The number of finished steps.
        aside: Seconds since the line before, by what took them; the rest went into steps.
    """
    rounded = {name: round(seconds, 4) for name, seconds in (aside or {}).items()}
    where = {} if step is None else {"step": step}
    line = {"kind": entry, "at": round(time.time(), 3), **where, **rounded}
    return json.dumps(line) + "\n"

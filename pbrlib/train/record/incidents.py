"""What went wrong with a phase on its way, ``incidents.jsonl``: lines that are only ever added.

A journal forgets what a fault has lost, and a phase that was finished in the end tells nothing of the
attempts before; this does. It imports no torch: the controller of a fit writes it too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pbrlib import storage
from pbrlib.errors import DataError

INCIDENTS = "incidents.jsonl"

FAILURE = "failure.json"
"""What stopped a phase for good. It is left before the attempt ends, so that no retry repeats the mistake."""

Incident = Literal["failed", "stalled", "preempted"]
"""``failed``: an error or a lost process has ended an attempt; ``stalled``: a rank waits for its input;
``preempted``: a node will be taken away, and a checkpoint is written before."""


def note_incident(directory: Path, incident: Incident, **values: Any) -> None:
    """Adds a line with the time of day; a disk or an S3 that is away loses it, and nothing else."""
    line = {"kind": incident, "at": round(time.time(), 3), **values}
    with suppress(OSError, DataError):
        storage.append_lines(directory / INCIDENTS, json.dumps(line) + "\n")


def format_incident(line: Mapping[str, Any]) -> str:
    """A line of the file as a sentence."""
    where = "" if line.get("step") is None else f"step {line['step']}"
    if line["kind"] == "stalled":
        return (
            f"{where}: rank {line.get('rank')} has waited {line.get('seconds', 0):.0f} s for its input: "
            f"{line.get('waits_for')}"
        )
    if line["kind"] == "preempted":
        left = "soon" if line.get("seconds") is None else f"in {line['seconds']:.0f} s"
        return f"{where}: a node will be taken away {left}; a checkpoint is written"
    if not where:
        where = f"after step {line.get('committed', 0)}"
    who = "" if line.get("rank") is None else f", rank {line['rank']}"
    return f"{where}{who}: {line.get('error')}: {line.get('message')}; {line.get('verdict')}"

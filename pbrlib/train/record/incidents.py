"""The incidents of a phase (failures, stalls, preemptions) in ``incidents.jsonl``, an append-only file.

The journal drops steps that a failure has lost, and the record of a finished phase does not mention earlier
attempts, so incidents have a file of their own. This module does not import torch, since the controller of a
training run writes incidents too.
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
"""The error that stopped a phase permanently, written before the attempt ends, so that it is not retried."""

Incident = Literal["failed", "stalled", "preempted"]
"""Kinds of incidents.

Attributes:
    failed: An error or a lost process ended an attempt.
    stalled: A rank waits for its input.
    preempted: A node will be preempted, and a checkpoint is written first.
"""


def note_incident(directory: Path, incident: Incident, **values: Any) -> None:
    """Append a line with the time; if the disk or S3 is not available, the line is dropped."""
    line = {"kind": incident, "at": round(time.time(), 3), **values}
    with suppress(OSError, DataError):
        storage.append_lines(directory / INCIDENTS, json.dumps(line) + "\n")


def read_incidents(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of a phase's file, the oldest first."""
    return storage.read_records(directory / INCIDENTS)


def format_incident(line: Mapping[str, Any]) -> str:
    """Format a line of the file as a sentence."""
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

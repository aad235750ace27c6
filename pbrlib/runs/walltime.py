"""Computes the wall time of a run by activity from the time sheets of its phases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.train.record.timesheet import TIME_SHEET


@dataclass(frozen=True)
class WallTime:
    """Seconds of wall time by activity.

    Attributes:
        steps: Optimizer steps, including the writing of the journal.
        input: Waiting for batches, except for the first batch of an attempt.
        validation: Metrics and pictures of the validation textures.
        checkpoints: Writing and reporting checkpoints.
        start_up: From the start of the command to the first batch, and from the last step to its end.
        lost: From the last checkpoint before a fault to the first batch of the next attempt.
        idle: Time without a command.
    """

    steps: float = 0.0
    input: float = 0.0
    validation: float = 0.0
    checkpoints: float = 0.0
    start_up: float = 0.0
    lost: float = 0.0
    idle: float = 0.0

    @property
    def total(self) -> float:
        """The total number of seconds."""
        return sum(self.parts().values())

    @property
    def goodput(self) -> float:
        """The share of the time in steps, 0 to 1; repeated steps count once."""
        return self.steps / self.total if self.total else 0.0

    def parts(self) -> dict[str, float]:
        """Return the seconds by name of the activity."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __add__(self, other: WallTime) -> WallTime:
        theirs = other.parts()
        return WallTime(**{name: seconds + theirs[name] for name, seconds in self.parts().items()})


@dataclass(frozen=True)
class TimeAccount:
    """The wall time of one phase by activity, with its first and last Unix time."""

    first: float
    last: float
    time: WallTime


def read_account(directory: Path) -> TimeAccount | None:
    """Read the wall time of a phase; None without a time sheet, as in runs of older versions."""
    # Two machines can garble a line by writing at once; its time is counted by the neighbouring lines.
    lines = [line for line in storage.read_records(directory / TIME_SHEET) if "kind" in line and "at" in line]
    return account_for(lines) if lines else None


def account_for(lines: Sequence[Mapping[str, Any]]) -> TimeAccount:
    """Assign every second between the first and the last line of a time sheet to one activity."""
    total = WallTime()
    kept: list[tuple[int, WallTime]] = []  # Intervals of training, with the number of finished steps.
    is_training = False
    for before, line in pairwise(lines):
        seconds = max(line["at"] - before["at"], 0.0)
        match line["kind"]:
            case "spent":
                kept.append((line["step"], _spent(line, seconds)))
            case "begun":
                kept, gone = _resumed(kept, step=line["step"])
                total += (
                    WallTime(lost=gone + seconds) if is_training else WallTime(lost=gone, start_up=seconds)
                )
                is_training = True
            case "launched":
                # The line before is the end of the command, or its last line before it was killed.
                total, is_training = total + WallTime(idle=seconds), False
            case "starting" if is_training:  # another attempt after a fault
                total += WallTime(lost=seconds)
            case "stopped" if is_training:
                total, is_training = total + WallTime(lost=seconds), False
            case _:
                total, is_training = total + WallTime(start_up=seconds), False
    total += sum((part for _, part in kept), WallTime())
    return TimeAccount(first=lines[0]["at"], last=max(line["at"] for line in lines), time=total)


def _resumed(kept: Sequence[tuple[int, WallTime]], *, step: int) -> tuple[list[tuple[int, WallTime]], float]:
    """Return the intervals that count when training resumes after ``step``, and the seconds that are lost."""
    lost = sum(part.total for finished, part in kept if finished > step)
    return [(finished, part) for finished, part in kept if finished <= step], lost


def _spent(line: Mapping[str, Any], seconds: float) -> WallTime:
    """Split an interval of training by activity; the measured parts are scaled to at most its length."""
    measured = [float(line.get(name, 0.0)) for name in ("input", "validation", "checkpoint")]
    scale = min(1.0, seconds / sum(measured)) if sum(measured) > 0 else 1.0
    waited, validated, saved = (scale * part for part in measured)
    return WallTime(
        steps=max(seconds - waited - validated - saved, 0.0),
        input=waited,
        validation=validated,
        checkpoints=saved,
    )


def add_accounts(accounts: Iterable[TimeAccount]) -> WallTime:
    """Add the wall times of the phases of a run; the time between phases is idle."""
    total, until = WallTime(), math.inf
    for account in sorted(accounts, key=lambda account: account.first):
        total += account.time + WallTime(idle=max(account.first - until, 0.0))
        until = account.last if math.isinf(until) else max(until, account.last)
    return total

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
    """Seconds by activity.

    Attributes:
        steps: Optimizer steps, also what the journal costs.
        input: Waiting for batches, but for the first one of an attempt.
        validation: Measuring and drawing the validation textures.
        checkpoints: Writing them and handing them over.
        start_up: From the command's launch to the first batch, and from the last step to the command's end.
        lost: Everything after the last checkpoint before a fault, until the next attempt has its first batch.
        idle: Nothing was launched.
    """

    steps: float = 0.0
    input: float = 0.0
    validation: float = 0.0
    checkpoints: float = 0.0
    start_up: float = 0.0
    lost: float = 0.0
    idle: float = 0.0

    @property
    def whole(self) -> float:
        """The total number of seconds."""
        return sum(self.parts().values())

    @property
    def goodput(self) -> float:
        """The share of it, 0 to 1, that went into steps that count: each step once, whatever was repeated."""
        return self.steps / self.whole if self.whole else 0.0

    def parts(self) -> dict[str, float]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __add__(self, other: WallTime) -> WallTime:
        theirs = other.parts()
        return WallTime(**{name: seconds + theirs[name] for name, seconds in self.parts().items()})


@dataclass(frozen=True)
class Sheet:
    """The account of one phase: from when to when, by the clock of day, and where it went."""

    first: float
    last: float
    time: WallTime


def read_sheet(directory: Path) -> Sheet | None:
    """The account of a phase's folder; None where there is no time sheet, as of older runs."""
    # A line that two machines wrote into at once says nothing; its neighbours cover its time.
    lines = [line for line in storage.read_records(directory / TIME_SHEET) if "kind" in line and "at" in line]
    return account(lines) if lines else None


def account(lines: Sequence[Mapping[str, Any]]) -> Sheet:
    """Gives every second between the first and the last line to one cause."""
    whole = WallTime()
    kept: list[tuple[int, WallTime]] = []  # Intervals of training, with the steps that were finished then.
    trains = False
    for before, line in pairwise(lines):
        seconds = max(line["at"] - before["at"], 0.0)
        match line["kind"]:
            case "spent":
                kept.append((line["step"], _spent(line, seconds)))
            case "begun":
                kept, gone = _resumed(kept, step=line["step"])
                whole += WallTime(lost=gone + seconds) if trains else WallTime(lost=gone, start_up=seconds)
                trains = True
            case "launched":
                # The line before was the command's end, or the last sign of life of one that was killed.
                whole, trains = whole + WallTime(idle=seconds), False
            case "starting" if trains:  # another attempt, after a fault
                whole += WallTime(lost=seconds)
            case "stopped" if trains:
                whole, trains = whole + WallTime(lost=seconds), False
            case _:
                whole, trains = whole + WallTime(start_up=seconds), False
    whole += sum((part for _, part in kept), WallTime())
    return Sheet(first=lines[0]["at"], last=max(line["at"] for line in lines), time=whole)


def _resumed(kept: Sequence[tuple[int, WallTime]], *, step: int) -> tuple[list[tuple[int, WallTime]], float]:
    """What stays of the intervals when training goes on after ``step``, and the seconds that are lost."""
    lost = sum(part.whole for finished, part in kept if finished > step)
    return [(finished, part) for finished, part in kept if finished <= step], lost


def _spent(line: Mapping[str, Any], seconds: float) -> WallTime:
    """An interval of training; what its own clock put aside never exceeds it."""
    aside = [float(line.get(name, 0.0)) for name in ("input", "validation", "checkpoint")]
    scale = min(1.0, seconds / sum(aside)) if sum(aside) > 0 else 1.0
    waited, validated, saved = (scale * one for one in aside)
    return WallTime(
        steps=max(seconds - waited - validated - saved, 0.0),
        input=waited,
        validation=validated,
        checkpoints=saved,
    )


def account_of_run(sheets: Iterable[Sheet]) -> WallTime:
    """Of all phases of a run; what lies between them was idle."""
    whole, until = WallTime(), math.inf
    for sheet in sorted(sheets, key=lambda one: one.first):
        whole += sheet.time + WallTime(idle=max(sheet.first - until, 0.0))
        until = sheet.last if math.isinf(until) else max(until, sheet.last)
    return whole

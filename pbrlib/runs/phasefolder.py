"""Reads the folder of one phase: journal, validations and incidents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.runs.jsonfile import read_leniently
from pbrlib.runs.walltime import TimeAccount, read_account
from pbrlib.train.badsamples import describe_bad_samples
from pbrlib.train.checkpoint.state import STATE, checkpoints, is_complete
from pbrlib.train.record.environment import ENVIRONMENT
from pbrlib.train.record.incidents import FAILURE, read_incidents
from pbrlib.train.record.journal import FALLBACK, METRICS, TRACKER
from pbrlib.train.record.rundirectory import FinishedPhase
from pbrlib.train.record.timesheet import TIME_SHEET
from pbrlib.train.runtimespec import Selection


@dataclass(frozen=True)
class Point:
    """A validation: the number of finished steps and the metrics."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class PhaseFolder:
    """The folder of one phase with one fingerprint.

    ``done`` is the record of the finished phase; None if it is not finished, or was trained again in another
    folder. ``select`` is the selection metric; None if it is unknown.
    """

    path: Path
    phase: str
    select: Selection | None
    done: FinishedPhase | None

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of the journal; incomplete lines are left out."""
        return storage.read_records(self.path / METRICS)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The journal's lines of training steps."""
        return [line for line in self.lines if line.get("kind") == "step"]

    @property
    def complaints(self) -> list[str]:
        """Complaints about tracker failures and about damaged or missing checkpoints and materials."""
        own = [line["complaint"] for line in self.lines if line.get("kind") in (TRACKER, FALLBACK)]
        return own + describe_bad_samples(self.lines) + self._gone()

    def _gone(self) -> list[str]:
        """Return a complaint if the best checkpoint of a finished phase does not exist."""
        if self.done is None or is_complete(self.path.parent / self.done.checkpoint):
            return []
        return [
            f"its best checkpoint {self.done.checkpoint} does not exist any more; `pbr train` trains "
            "the phase again if needed"
        ]

    @property
    def incidents(self) -> list[dict[str, Any]]:
        """The incidents of the phase, the oldest first."""
        return read_incidents(self.path)

    @property
    def history(self) -> tuple[Point, ...]:
        """The validations, the oldest first."""
        if self.done is not None and self.done.history:
            return tuple(Point(validation.step, validation.metrics) for validation in self.done.history)
        found = [line for line in self.lines if line.get("kind") == "validation"]
        return tuple(Point(line["step"], _numbers(line)) for line in found)

    @property
    def best(self) -> Point | None:
        """The best validation, the first of equal ones; None without a validation or selection metric."""
        select = self.select
        if select is None:
            return None
        known = [point for point in self.history if math.isfinite(point.metrics.get(select.metric, math.nan))]
        return max(known, key=lambda point: select.score(point.metrics), default=None)

    @property
    def progress(self) -> tuple[int, int | None]:
        """The number of finished steps, and of all steps if the journal has it."""
        last = max((line["step"] for line in self.lines), default=0)
        return last, next((line["total_steps"] for line in reversed(self.steps)), None)

    @cached_property
    def account(self) -> TimeAccount | None:
        """The wall time of the phase by activity; None without a time sheet."""
        return read_account(self.path)

    @cached_property
    def last_written(self) -> float:
        """The time of the last write in seconds since the epoch, as of the first call; 0 if there is none."""
        files = [self.path / name for name in (METRICS, TIME_SHEET, ENVIRONMENT, FAILURE)]
        files += [folder / STATE for folder in checkpoints(self.path)[-1:]]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    @property
    def last_entry(self) -> str | None:
        """The kind of the last line of its time sheet."""
        lines = storage.read_records(self.path / TIME_SHEET)
        return lines[-1].get("kind") if lines else None

    def environment(self) -> dict[str, Any]:
        """The recorded environment; empty for old runs without a record."""
        return read_leniently(self.path / ENVIRONMENT)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if name.startswith("val/")}

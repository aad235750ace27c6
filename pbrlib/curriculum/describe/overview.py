"""The progress of a ladder: the state of every phase, as data for ``RUNS/ladder.json`` and as table rows."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pbrlib.curriculum.describe.description import epoch_figures
from pbrlib.curriculum.describe.phrases import duration
from pbrlib.curriculum.ladder import Ladder
from pbrlib.curriculum.scale import scaled
from pbrlib.data.shards.index import IndexRow
from pbrlib.train.record.rundirectory import FinishedPhase
from pbrlib.train.runtimespec import Selection

FORMAT_VERSION = 1

RungState = Literal["waiting", "training", "finished", "finished before", "stopped"]
"""``finished before``: by an earlier command; ``stopped``: by an error, its gate or an interrupt."""

COLUMNS = ("phase", "state", "best", "steps", "time", "checkpoint")


@dataclass(frozen=True)
class Rung:
    """One phase of a ladder.

    ``stage`` is what an attempt does before its first batch, None after it;
    ``best`` is the best value of the selection's metric so far, ``step`` the number of finished steps,
    ``seconds`` what they took since the phase was started last, ``checkpoint`` the best one of a finished
    phase, relative to the runs directory. ``error`` says what stopped it.
    """

    curriculum: str
    phase: str
    selection: Selection
    batch: int
    total_steps: int
    state: RungState = "waiting"
    stage: str | None = None
    fingerprint: str | None = None
    best: float | None = None
    step: int = 0
    seconds: float | None = None
    seconds_left: float | None = None
    checkpoint: str | None = None
    gate: Literal["passed", "forced", "closed"] | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """As in a reference to a donor's phase, with a slash."""
        return f"{self.curriculum}/{self.phase}"

    @property
    def is_finished(self) -> bool:
        """Whether the next phase may start from this one."""
        return self.state in ("finished", "finished before")

    @property
    def samples(self) -> tuple[int, int]:
        """Those seen and all; of a finished phase all, even if it ended early."""
        total = self.total_steps * self.batch
        return (total if self.is_finished else self.step * self.batch), total

    def started(self, fingerprint: str) -> Rung:
        """Resolved and about to train."""
        return replace(self, state="training", stage="starting", fingerprint=fingerprint, seconds=0.0)

    def reached(self, stage: str | None) -> Rung:
        """With the stage of an attempt's start; None: it trains. How long the rest takes is not known yet."""
        return replace(self, stage=stage, seconds_left=None)

    def after(self, lines: Iterable[Mapping[str, Any]], *, seconds: float) -> Rung:
        """With what its journal has said since, and the seconds since it was started."""
        rung = replace(self, seconds=seconds)
        for line in lines:
            if line["kind"] == "step":
                left = line.get("seconds_left")
                rung = replace(rung, stage=None, step=line["step"], seconds_left=left)
            elif line["kind"] == "validation":
                rung = replace(rung, best=rung._better(line))
        return rung

    def _better(self, metrics: Mapping[str, float]) -> float | None:
        # What was not measured is reported where the best checkpoint is chosen.
        value = metrics.get(self.selection.metric, math.nan)
        if math.isnan(value):
            return self.best
        known = {} if self.best is None else {self.selection.metric: self.best}
        better = not known or self.selection.score(metrics) > self.selection.score(known)
        return value if better else self.best

    def finished(self, done: FinishedPhase, *, before: bool) -> Rung:
        """With the record of its end, by this command or by one before."""
        gate = done.gate or {}
        forced: Literal["forced", "closed"] = "forced" if gate.get("forced") is not None else "closed"
        return replace(
            self,
            state="finished before" if before else "finished",
            stage=None,
            fingerprint=done.fingerprint,
            best=done.metrics[self.selection.metric],
            step=done.history[-1].step if done.history else done.step,
            seconds=done.seconds,
            seconds_left=None,
            checkpoint=f"{self.curriculum}/{done.checkpoint}",
            gate=("passed" if gate["passed"] else forced) if gate else None,
        )

    def stopped(self, error: str) -> Rung:
        """Return the phase with the error that ended it."""
        return replace(self, state="stopped", stage=None, seconds_left=None, error=error)

    def as_data(self) -> dict[str, Any]:
        """Plain values; what is not a number, or not known, is None."""
        figures = {"best": self.best, "seconds": self.seconds, "seconds_left": self.seconds_left}
        return {
            "curriculum": self.curriculum,
            "phase": self.phase,
            "state": self.state,
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "metric": self.selection.metric,
            "mode": self.selection.mode,
            **{name: value if _is_number(value) else None for name, value in figures.items()},
            "step": self.step,
            "total_steps": self.total_steps,
            "checkpoint": self.checkpoint,
            "gate": self.gate,
            "error": self.error,
        }

    def row(self) -> tuple[str, ...]:
        """One cell for each of ``COLUMNS``."""
        metric = self.selection.metric.removeprefix("val/")
        best = "" if self.best is None else f"{metric} {self.best:.4f}"
        state = f"{self.state}, gate {self.gate}" if self.gate in ("forced", "closed") else self.state
        state = self.stage or state
        time = "" if self.seconds is None else duration(self.seconds)
        # The first column names the curriculum already.
        checkpoint = (self.checkpoint or "").removeprefix(f"{self.curriculum}/")
        return self.name, state, best, f"{self.step}/{self.total_steps}", time, checkpoint


@dataclass(frozen=True)
class Overview:
    """All phases that one command trains, and who trains them since when.

    ``ended`` is set when the command trains no more, whether it has come to the top or not.
    """

    waves: tuple[tuple[str, ...], ...]
    rungs: tuple[Rung, ...]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    ended: bool = False

    def rung(self, curriculum: str, phase: str) -> Rung:
        """One of the phases."""
        return next(rung for rung in self.rungs if (rung.curriculum, rung.phase) == (curriculum, phase))

    def having(self, changed: Rung) -> Overview:
        """With a rung in the place of that with its name."""
        rungs = tuple(changed if rung.name == changed.name else rung for rung in self.rungs)
        return replace(self, rungs=rungs)

    def end(self, error: str | None = None) -> Overview:
        """The command trains no more; phases that still do are stopped by the ``error``."""
        rungs = tuple(
            rung.stopped(error) if error and rung.state == "training" else rung for rung in self.rungs
        )
        return replace(self, rungs=rungs, ended=True)

    @property
    def state(self) -> Literal["training", "finished", "stopped"]:
        """Of the whole."""
        if not self.ended:
            return "training"
        return "finished" if all(rung.is_finished for rung in self.rungs) else "stopped"

    @property
    def num_finished(self) -> int:
        """Number of finished phases."""
        return sum(rung.is_finished for rung in self.rungs)

    @property
    def share(self) -> float:
        """Of all samples, those seen; in [0, 1]."""
        seen = sum(rung.samples[0] for rung in self.rungs)
        return seen / max(sum(rung.samples[1] for rung in self.rungs), 1)

    def sentence(self, now: datetime) -> str:
        """The whole in a line."""
        elapsed = duration((now - self.started).total_seconds())
        return (
            f"{self.num_finished} of {len(self.rungs)} phases, "
            f"{100 * self.share:.0f} % of all samples, {elapsed}"
        )

    def as_data(self, now: datetime) -> dict[str, Any]:
        """Return the content of ``ladder.json``."""
        return {
            "format_version": FORMAT_VERSION,
            "state": self.state,
            "started": _stamp(self.started),
            "updated": _stamp(now),
            "host": self.host,
            "pid": self.pid,
            "phases_finished": self.num_finished,
            "share_of_samples": round(self.share, 4),
            "waves": [list(wave) for wave in self.waves],
            "phases": [rung.as_data() for rung in self.rungs],
        }


def overview_of(ladder: Ladder, *, phases: Mapping[str, Sequence[str]], rows: Sequence[IndexRow]) -> Overview:
    """The overview before anything has begun; ``phases`` are those to train, by curriculum."""
    rungs = []
    for curriculum in map(scaled, ladder.curricula):
        for name in phases[curriculum.name]:
            phase = curriculum.phases[name]
            steps: int = epoch_figures(phase, curriculum.task, rows)["total_steps"]
            rungs.append(
                Rung(curriculum.name, name, selection=phase.select, batch=phase.batch, total_steps=steps)
            )
    waves = tuple(tuple(entry.curriculum.name for entry in wave) for wave in ladder.waves)
    return Overview(waves, tuple(rungs))


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _stamp(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")

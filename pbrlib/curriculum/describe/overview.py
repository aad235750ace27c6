"""Tracks the progress of a ladder: the state of every phase, for ``RUNS/ladder.json`` and for tables."""

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

PhaseState = Literal["waiting", "training", "finished", "finished before", "stopped"]
"""``finished before``: finished by an earlier command; ``stopped``: by an error, gate or interrupt."""

COLUMNS = ("phase", "state", "best", "steps", "time", "checkpoint")


@dataclass(frozen=True)
class PhaseProgress:
    """The progress of one phase.

    Attributes:
        curriculum: Name of the curriculum.
        phase: Name of the phase.
        selection: The metric that selects the best checkpoint.
        batch: Samples per step.
        total_steps: Number of steps of the phase.
        state: State of the phase.
        stage: Stage of an attempt before its first batch; None after that.
        fingerprint: Fingerprint of the phase; None before it is started.
        best: The best value of the selection metric so far.
        step: Number of finished steps.
        seconds: Time since the last start of the phase.
        seconds_left: Estimated time until the end.
        checkpoint: The best checkpoint of a finished phase, relative to the runs directory.
        gate: Result of the gate of a finished phase.
        error: The error that stopped the phase.
    """

    curriculum: str
    phase: str
    selection: Selection
    batch: int
    total_steps: int
    state: PhaseState = "waiting"
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
        """The name with the curriculum, such as ``segformer/S1``."""
        return f"{self.curriculum}/{self.phase}"

    @property
    def is_finished(self) -> bool:
        """Whether the next phase may start from this one."""
        return self.state in ("finished", "finished before")

    @property
    def samples(self) -> tuple[int, int]:
        """Number of samples seen and in total; equal for a finished phase, even if it ended early."""
        total = self.total_steps * self.batch
        return (total if self.is_finished else self.step * self.batch), total

    def started(self, fingerprint: str) -> PhaseProgress:
        """Return the phase in state ``training``, before its first step."""
        return replace(self, state="training", stage="starting", fingerprint=fingerprint, seconds=0.0)

    def at_stage(self, stage: str | None) -> PhaseProgress:
        """Return the phase at a stage of its start; None is training. The remaining time is unknown."""
        return replace(self, stage=stage, seconds_left=None)

    def with_journal(self, lines: Iterable[Mapping[str, Any]], *, seconds: float) -> PhaseProgress:
        """Return the phase updated by new lines of its journal and the seconds since its start."""
        entry = replace(self, seconds=seconds)
        for line in lines:
            if line["kind"] == "step":
                left = line.get("seconds_left")
                entry = replace(entry, stage=None, step=line["step"], seconds_left=left)
            elif line["kind"] == "validation":
                entry = replace(entry, best=entry._better(line))
        return entry

    def _better(self, metrics: Mapping[str, float]) -> float | None:
        # A metric that was not measured is reported where the best checkpoint is selected.
        value = metrics.get(self.selection.metric, math.nan)
        if math.isnan(value):
            return self.best
        known = {} if self.best is None else {self.selection.metric: self.best}
        better = not known or self.selection.score(metrics) > self.selection.score(known)
        return value if better else self.best

    def finished(self, done: FinishedPhase, *, before: bool) -> PhaseProgress:
        """Return the phase as finished; ``before`` is true if an earlier command finished it."""
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

    def stopped(self, error: str) -> PhaseProgress:
        """Return the phase with the error that ended it."""
        return replace(self, state="stopped", stage=None, seconds_left=None, error=error)

    def as_data(self) -> dict[str, Any]:
        """Return the phase as JSON values; unknown and non-finite numbers are None."""
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
        """Return the table row, with one cell for each of ``COLUMNS``."""
        metric = self.selection.metric.removeprefix("val/")
        best = "" if self.best is None else f"{metric} {self.best:.4f}"
        gates = {"forced": ", gate forced", "closed": ", gate not passed"}
        state = f"{self.state}{gates.get(self.gate or '', '')}"
        state = self.stage or state
        time = "" if self.seconds is None else duration(self.seconds)
        # The first column already has the name of the curriculum.
        checkpoint = (self.checkpoint or "").removeprefix(f"{self.curriculum}/")
        return self.name, state, best, f"{self.step}/{self.total_steps}", time, checkpoint


@dataclass(frozen=True)
class LadderProgress:
    """The progress of all phases that one command trains, with the process that trains them.

    ``ended`` is true once the command has stopped training, with or without success.
    """

    waves: tuple[tuple[str, ...], ...]
    phases: tuple[PhaseProgress, ...]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    ended: bool = False

    def phase(self, curriculum: str, phase: str) -> PhaseProgress:
        """Return the progress of one phase."""
        return next(entry for entry in self.phases if (entry.curriculum, entry.phase) == (curriculum, phase))

    def with_phase(self, changed: PhaseProgress) -> LadderProgress:
        """Return the progress with one phase replaced."""
        phases = tuple(changed if entry.name == changed.name else entry for entry in self.phases)
        return replace(self, phases=phases)

    def end(self, error: str | None = None) -> LadderProgress:
        """Return the progress at the end of the command; an ``error`` stops the phases in training."""
        phases = tuple(
            entry.stopped(error) if error and entry.state == "training" else entry for entry in self.phases
        )
        return replace(self, phases=phases, ended=True)

    @property
    def state(self) -> Literal["training", "finished", "stopped"]:
        """State of the command."""
        if not self.ended:
            return "training"
        return "finished" if all(entry.is_finished for entry in self.phases) else "stopped"

    @property
    def num_finished(self) -> int:
        """Number of finished phases."""
        return sum(entry.is_finished for entry in self.phases)

    @property
    def share(self) -> float:
        """Share of the samples seen so far, in [0, 1]."""
        seen = sum(entry.samples[0] for entry in self.phases)
        return seen / max(sum(entry.samples[1] for entry in self.phases), 1)

    def sentence(self, now: datetime) -> str:
        """Return a one-line summary: finished phases, share of the samples, elapsed time."""
        elapsed = duration((now - self.started).total_seconds())
        return (
            f"{self.num_finished} of {len(self.phases)} phases, "
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
            "phases": [entry.as_data() for entry in self.phases],
        }


def overview_of(
    ladder: Ladder, *, phases: Mapping[str, Sequence[str]], rows: Sequence[IndexRow]
) -> LadderProgress:
    """Return the progress before the first phase; ``phases`` are the phases to train by curriculum."""
    entries = []
    for curriculum in map(scaled, ladder.curricula):
        for name in phases[curriculum.name]:
            phase = curriculum.phases[name]
            steps: int = epoch_figures(phase, curriculum.task, rows)["total_steps"]
            entries.append(
                PhaseProgress(
                    curriculum.name, name, selection=phase.select, batch=phase.batch, total_steps=steps
                )
            )
    waves = tuple(tuple(entry.curriculum.name for entry in wave) for wave in ladder.waves)
    return LadderProgress(waves, tuple(entries))


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _stamp(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")

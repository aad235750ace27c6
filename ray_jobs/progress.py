"""Show the progress of a command, read from the files that rank 0 of each phase writes.

A terminal gets a live table; other outputs get lines, and the table at the end. ``RUNS/ladder.json`` holds
the same as data.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pbrlib import storage
from pbrlib.curriculum.describe.overview import COLUMNS, LadderProgress, PhaseProgress
from pbrlib.curriculum.describe.phrases import duration
from pbrlib.curriculum.run import PhaseJob
from pbrlib.errors import DataError, PbrError
from pbrlib.train.checkpoint.state import newest_step
from pbrlib.train.record.incidents import INCIDENTS, format_incident
from pbrlib.train.record.journal import METRICS, total_losses
from pbrlib.train.record.rundirectory import LADDER, FinishedPhase
from pbrlib.train.record.timesheet import DOES, TIME_SHEET, Stage
from ray_jobs.bar import Console
from ray_jobs.invocation import is_quiet

POLL_S = 0.5
PLAIN_EVERY_S = 15.0
"""Interval between two lines of a phase where the output is not a terminal."""
STAGE_AFTER_S = 2.0
"""Duration after which a stage of a start gets a line where the output is not a terminal."""
WRITE_EVERY_S = 5.0
"""Interval of ``ladder.json``, also without a change: an old time stamp in it means that the command died."""


@dataclass
class _Followed:
    """A phase in training: its files, its newest line, and its start times by the monotonic clock."""

    directory: Path
    began: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)
    line: str = ""
    stage: str | None = None
    stage_began: float = 0.0

    def __post_init__(self) -> None:
        self.journal, self.incidents, self.sheet = (
            storage.follow_lines(self.directory / name) for name in (METRICS, INCIDENTS, TIME_SHEET)
        )


class Progress:
    """Show the overview of a command while the block runs; several threads may report phases."""

    def __init__(self, overview: LadderProgress, *, runs: Path, console: Console | None = None) -> None:
        self.overview, self.runs = overview, runs
        self.console = console or Console(quiet=is_quiet())
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._followed: dict[str, _Followed] = {}
        self._lock, self._over = threading.RLock(), threading.Event()
        self._written = 0.0
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Progress:
        self._write()
        if self.console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            # Threads that outlive an interrupt change nothing from here on.
            self._over.set()
            self.overview = self.overview.end(None if error is None else _describe_error(error))
            self._write()
        self._thread.join(timeout=5)
        self._live.stop()
        self.console.quiet = False  # the table at the end is the result
        self.console.print(_table(self.overview.phases, self.console))
        self.console.print(self._summary())

    def resume_advice(self) -> str:
        """Return how to resume after an interrupt, and the step from which each phase resumes."""
        with self._lock:
            reached = [
                f"{entry.name} resumes at step {_resume_step(followed.directory)} of {entry.total_steps}"
                for entry in self.overview.phases
                if (followed := self._followed.get(entry.name))
            ]
        done = f"{self.overview.num_finished} of {len(self.overview.phases)} phases are finished"
        return f"resume with the same command ({', '.join(reached) or done})"

    def started(self, job: PhaseJob) -> None:
        """Show that a phase starts to train."""
        with self._lock:
            entry = self.overview.phase(job.curriculum.name, job.phase)
            self._followed[entry.name] = _Followed(job.directory)
            self._enter(entry.started(job.fingerprint), f"{entry.name}: training into {job.directory}")

    def note(self, job: PhaseJob, text: str) -> None:
        """Print a line about a phase that does not train."""
        with self._lock:
            self._print(f"{job.curriculum.name}/{job.phase}: {text}")

    def finished(self, job: PhaseJob, done: FinishedPhase, *, before: bool) -> None:
        """Show that a phase is finished and has passed its gate; ``before``: by an earlier command."""
        entry = self.overview.phase(job.curriculum.name, job.phase).finished(done, before=before)
        metric = entry.selection.metric
        figures = f"{metric} {done.metrics[metric]:.4f} at step {done.step} ({done.seconds:.0f} s)"
        self._enter(entry, f"{entry.name}: {entry.state}, {figures}{_describe_end(done)}")

    def stopped(self, curriculum: str, phase: str, error: Exception, *, done: FinishedPhase | None) -> None:
        """Show that a phase stopped with an error, or, with ``done``, that its gate was not passed."""
        with self._lock:
            entry = self.overview.phase(curriculum, phase)
            if done is not None:
                entry = entry.finished(done, before=False)
            self._enter(
                entry.stopped(_describe_error(error)), f"{entry.name}: stopped. {_describe_error(error)}"
            )

    def _enter(self, entry: PhaseProgress, line: str) -> None:
        with self._lock:
            if self._over.is_set():
                return
            if entry.state != "training":
                self._followed.pop(entry.name, None)
            self.overview = self.overview.with_phase(entry)
            self._print(line)
            self._write()

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _poll(self) -> None:
        while not self._over.wait(POLL_S):
            with self._lock:
                if self._over.is_set():
                    return
                for name, followed in self._followed.items():
                    self._follow(name, followed)
                if time.monotonic() - self._written >= WRITE_EVERY_S:
                    self._write()
                if self._live.is_started:
                    self._live.update(self._shown(), refresh=True)

    def _follow(self, name: str, followed: _Followed) -> None:
        for line in followed.incidents.lines():
            self._print(f"{name}: {format_incident(line)}")
        now, entry = time.monotonic(), self.overview.phase(*name.split("/"))
        for line in followed.sheet.lines():
            if line["kind"] in ("starting", "begun"):
                entry = self._reach(entry, followed, stage=line.get("stage"))
        lines = followed.journal.lines()
        self.overview = self.overview.with_phase(entry.with_journal(lines, seconds=now - followed.began))
        if followed.stage and not self._live.is_started and now - followed.stage_began >= STAGE_AFTER_S:
            self._print(f"{name}: {followed.stage}")
            followed.stage = None
        steps = [line for line in lines if line["kind"] == "step"]
        if not steps:
            return
        followed.line = progress_line(name, steps[-1])
        if not self._live.is_started and now - followed.printed >= PLAIN_EVERY_S:
            followed.printed = now
            self._print(followed.line)

    def _reach(self, entry: PhaseProgress, followed: _Followed, *, stage: Stage | None) -> PhaseProgress:
        """Show a stage of a start; None: the first batch. The line of an earlier attempt is cleared."""
        followed.stage = None if stage is None else DOES[stage]
        followed.stage_began, followed.line = time.monotonic(), ""
        return entry.at_stage(followed.stage)

    def _write(self) -> None:
        self._written = time.monotonic()
        text = json.dumps(self.overview.as_data(datetime.now(UTC)), indent=1, allow_nan=False)
        # A full disk or an S3 outage ends the phase that runs into it, with its own message. The old time
        # stamp shows that this file is out of date.
        with suppress(DataError):
            storage.write_atomic(self.runs / LADDER, text)

    def _shown(self) -> RenderableType:
        shown = (followed.line for followed in self._followed.values() if followed.line)
        lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in shown]
        # A table that does not fit the window would hide the phases in training, so only those are shown.
        room = self.console.height - len(lines) - 5
        phases = self.overview.phases
        if len(phases) > room:
            phases = tuple(entry for entry in phases if entry.state in ("training", "stopped"))
        return Group(_table(phases, self.console), *lines, self._summary())

    def _summary(self) -> Text:
        return Text(self.overview.sentence(datetime.now(UTC)), style="bold")


def _resume_step(directory: Path) -> int:
    """Return the step from which a phase is resumed."""
    with suppress(OSError, DataError):
        return newest_step(directory)
    return 0


def _table(phases: Sequence[PhaseProgress], console: Console) -> Table:
    """Return the table with as many columns, from the left, as fit the console."""
    for count in range(len(COLUMNS), 0, -1):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in COLUMNS[:count]:
            table.add_column(name, no_wrap=True)
        for entry in phases:
            table.add_row(*map(Text, entry.row()[:count]))
        if console.measure(table).maximum < console.width:
            break
    return table


def _describe_error(error: BaseException) -> str:
    """Return the message of an error, after its type unless it is a PbrError."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(error) if isinstance(error, PbrError) else f"{type(error).__name__}: {error}"


def _describe_end(done: FinishedPhase) -> str:
    """Return why a finished phase ended early and the verdict of its gate, or an empty text."""
    early = f"; ended early at a {done.stopped}" if done.stopped else ""
    if done.gate is None:
        return early
    forced = done.gate["forced"]
    verdict = "passed its gate" if done.gate["passed"] else f"forced past its gate: {forced}"
    return f"{early}; {verdict}"


def progress_line(title: str, values: Mapping[str, Any]) -> str:
    """Return phase, epoch, step, loss, samples/s, input stall and time left, once known, in one line."""
    seconds = values.get("seconds_left")
    left = "" if seconds is None else f"  {duration(seconds)} left"
    bad = f"  {values['bad_samples']:.0f} bad samples" if values.get("bad_samples") else ""
    losses = "  ".join(
        f"{name.removeprefix('train/').replace('/', ' ')} {value:.4f}"
        for name, value in total_losses(values).items()
    )
    return (
        f"{title}  epoch {values['epoch']:.1f}  step {values['step']}/{values['total_steps']}  "
        f"{losses}  {values['samples_per_s']:.1f} samples/s  "
        f"input stall {100 * values['input_stall']:.0f} %{left}{bad}"
    )

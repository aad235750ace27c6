"""Formats runs for the terminal: a list of runs, and the details of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pbrlib.curriculum.describe.phrases import duration
from pbrlib.errors import printable
from pbrlib.inference.modelfile import is_model
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.runs.record import Run
from pbrlib.runs.sparkline import sparkline
from pbrlib.runs.walltime import WallTime, add_accounts
from pbrlib.train.checkpoint.state import checkpoints
from pbrlib.train.record.incidents import INCIDENTS, format_incident
from pbrlib.train.record.journal import METRICS, total_losses
from pbrlib.train.record.profile import PROFILE
from pbrlib.train.record.rundirectory import CURRICULUM, MODEL, RECORD
from pbrlib.train.record.timesheet import TIME_SHEET

MAX_INCIDENTS = 20
"""Maximum number of incidents shown per phase."""

LABELS = {
    "steps": "steps",
    "input": "input wait",
    "validation": "validation",
    "checkpoints": "checkpoints",
    "start_up": "start-up",
    "lost": "lost to faults",
    "idle": "idle",
}


def listing(runs: Sequence[Run], *, root: Path, now: float) -> Iterator[RenderableType]:
    """Yield a table with one row per run, and the reasons of stopped runs."""
    table = _table("run", "state", "phase", "best", "step", "age")
    reasons = []
    for run in runs:
        state, phase = run.state(now=now), run.shown_phase(now=now)
        name = _below(run.path, root)
        folder = None if phase is None else run.current(phase)
        number = run.phases.index(phase) + 1 if phase in run.phases else 0
        place = f"{phase} ({number} of {len(run.phases)})" if phase else ""
        age = duration(max(now - run.last_written, 0.0))
        cells = (name, state, place, _best(folder), _progress(folder), age)
        table.add_row(*(Text(printable(cell)) for cell in cells))
        if state == "stopped" and phase is not None and (reason := run.reason(phase)):
            reasons.append(f"{name} {phase}: {reason}")
    yield table
    yield from reasons


def render_run(run: Run, *, now: float) -> Iterator[RenderableType]:
    """Yield the details of one run: phases, incidents, curves, wall time, files."""
    kind = run.declared.get("task", {}).get("kind", "task unknown")
    yield Text(f"{run.name}: {run.state(now=now)}, {kind}, {len(run.phases)} phases", style="bold")
    table = _table("phase", "state", "best", "step", "wall time", "gate", "last written")
    for name in run.phases:
        cells = (*phase_cells(run, name, now=now), _age(run.current(name), now=now))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    yield table
    for name in run.phases:
        if reason := run.reason(name):
            yield f"{name}: {reason}"
    current = [folder for name in run.phases if (folder := run.current(name)) is not None]
    for folder in current:
        yield from (f"{folder.phase}: {complaint}" for complaint in folder.complaints)
        yield from incidents(folder)
    for folder in current:
        yield ""
        yield from curves(folder)
    yield ""
    yield from wall_time(run)
    yield ""
    yield from places(run, current)


def incidents(folder: PhaseFolder) -> Iterator[str]:
    """Yield one line per incident of a phase: time, attempt, step and cause."""
    found = folder.incidents
    if len(found) > MAX_INCIDENTS:
        yield f"{folder.phase}: {len(found) - MAX_INCIDENTS} earlier incidents are in {INCIDENTS}"
    for line in found[-MAX_INCIDENTS:]:
        at = datetime.fromtimestamp(line.get("at", 0.0)).astimezone()
        yield f"{folder.phase}  {at:%Y-%m-%d %H:%M:%S}  {format_incident(line)}"


def phase_cells(run: Run, phase: str, *, now: float) -> tuple[str, ...]:
    """Return the cells of a phase: name, state, best, step, wall time and gate."""
    folder = run.current(phase)
    cells = (phase, run.state_of(phase, now=now), _best(folder), _progress(folder), _wall(folder))
    return (*cells, _gate(folder))


def curves(folder: PhaseFolder) -> Iterator[str]:
    """Yield the curves of the losses and of the selection metric, one line each."""
    drawn: dict[str, list[float]] = {}
    for line in folder.steps:
        for name, loss in total_losses(line).items():
            drawn.setdefault(name, []).append(loss)
    if folder.select is not None:
        metric = folder.select.metric
        drawn[metric] = [point.metrics[metric] for point in folder.history if metric in point.metrics]
    width = max(len(name) for name in drawn)
    for name, values in drawn.items():
        if values:
            ends = f"{values[0]:.4g} to {values[-1]:.4g}, min {min(values):.4g}, max {max(values):.4g}"
            yield f"{folder.phase}  {name:{width}}  {sparkline(values)}  {ends}"


def wall_time(run: Run) -> Iterator[RenderableType]:
    """Yield a table of the wall time by activity, for each folder of a phase and for the run."""
    accounts = {folder.path.name: folder.account for folder in run.folders if folder.account is not None}
    if not accounts:
        yield "Wall time: there is no time sheet, since an older version trained this run."
        return
    table = _table("wall time", *LABELS.values(), "total")
    for name, account in accounts.items():
        table.add_row(name, *_shares(account.time))
    total = add_accounts(accounts.values())
    table.add_row(Text("run", style="bold"), *_shares(total))
    yield table
    yield goodput_text(total)


def goodput_text(time: WallTime) -> str:
    """Return a sentence with the goodput of a run."""
    return f"Goodput {100 * time.goodput:.0f} %: share of the wall time in steps; repeated steps count once."


def places(run: Run, current: Sequence[PhaseFolder]) -> Iterator[str]:
    """Yield the paths of the files of a run and of the current folders of its phases."""
    files = {"curriculum": CURRICULUM, "record": RECORD, "report": "report.html"}
    for what, name in files.items():
        if (run.path / name).exists():
            yield f"{what:16} {run.path / name}"
    for folder in current:
        best = None if folder.done is None else run.path / folder.done.checkpoint
        for what, path in (
            ("journal", folder.path / METRICS),
            ("tensorboard", folder.path / "tensorboard"),
            ("profile", folder.path / PROFILE),
            ("time sheet", folder.path / TIME_SHEET),
            ("best", best),
            ("last", max(checkpoints(folder.path), default=None)),
        ):
            if path is not None and path.exists():
                yield f"{f'{folder.phase} {what}':16} {path}"
    if is_model(run.path.parent / MODEL):
        yield f"{'model':16} {run.path.parent / MODEL}"


def _shares(time: WallTime) -> Iterator[str]:
    for name in LABELS:
        seconds = time.parts()[name]
        yield f"{duration(seconds)} ({100 * seconds / time.total:.0f} %)" if seconds else "-"
    yield duration(time.total)


def _best(folder: PhaseFolder | None) -> str:
    if folder is None or folder.select is None or folder.best is None:
        return ""
    metric = folder.select.metric
    return f"{metric.removeprefix('val/')} {folder.best.metrics[metric]:.4f}"


def _progress(folder: PhaseFolder | None) -> str:
    if folder is None:
        return ""
    step, total = folder.progress
    return f"{step}/{total or '?'}"


def _wall(folder: PhaseFolder | None) -> str:
    if folder is None:
        return ""
    if folder.account is not None:
        return duration(folder.account.time.total)
    return "" if folder.done is None else duration(folder.done.seconds)


def _gate(folder: PhaseFolder | None) -> str:
    gate = None if folder is None or folder.done is None else folder.done.gate
    if gate is None:
        return ""
    if gate["passed"]:
        return "passed"
    return "not passed" if gate.get("forced") is None else f"forced: {gate['forced']}"


def _age(folder: PhaseFolder | None, *, now: float) -> str:
    return "" if folder is None else f"{duration(max(now - folder.last_written, 0.0))} ago"


def _below(path: Path, root: Path) -> str:
    root = root.resolve()
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table

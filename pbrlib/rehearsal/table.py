"""The report of a rehearsal: a page for the terminal and a dict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pbrlib.curriculum.describe.phrases import duration, size
from pbrlib.rehearsal.checks import Check
from pbrlib.rehearsal.estimate import Whole
from pbrlib.rehearsal.ladder import Rehearsed

FORMAT_VERSION = 1
WIDTH = 110

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("FAILED", "bold red")}


@dataclass(frozen=True)
class Rehearsal:
    """The results of a rehearsal.

    Attributes:
        checks: Of the cluster.
        phases: In the order in which they were rehearsed.
        whole: What all of them take.
        workers: Of each phase; ``room`` is how many phases the cluster holds at once.
        seconds: That the rehearsal itself took.
        device: On which the workers train: ``cuda`` or ``cpu``.
        writes_model: Whether the ladder ends with a model folder, whose evaluation is not in the hours.
    """

    checks: tuple[Check, ...]
    phases: tuple[Rehearsed, ...]
    whole: Whole
    workers: int
    room: int
    seconds: float
    device: str
    writes_model: bool

    @property
    def problems(self) -> list[str]:
        """The checks and the phases that failed, by name."""
        checks = [one.check for one in self.checks if one.verdict == "failed"]
        return checks + [one.length.name for one in self.phases if not one.passed]

    def as_data(self) -> dict[str, Any]:
        """For ``--report``."""
        return {
            "format_version": FORMAT_VERSION,
            "passed": not self.problems,
            "problems": self.problems,
            "device": self.device,
            "workers": self.workers,
            "room": self.room,
            "seconds": round(self.seconds, 1),
            "whole": self.whole.as_data(),
            "checks": [one.as_data() for one in self.checks],
            "phases": [_phase(one) for one in self.phases],
        }


def _phase(one: Rehearsed) -> dict[str, Any]:
    return {
        "curriculum": one.length.curriculum,
        "phase": one.length.phase,
        "crop": one.crop,
        "batch": one.length.batch,
        "steps": one.length.steps,
        "validations": one.length.validations,
        "passed": one.passed,
        "error": one.error,
        "figures": None if one.figures is None else one.figures.as_data(),
        "estimate": None if one.estimate is None else one.estimate.as_data(),
    }


def render(rehearsal: Rehearsal) -> RenderableType:
    """The whole page, at most ``WIDTH`` columns wide."""
    parts: list[RenderableType] = [phase_table(rehearsal.phases), Text()]
    parts += [Text(f"{one.length.name}: {one.error}", style="red") for one in rehearsal.phases if one.error]
    parts += [Text(line) for line in sentences(rehearsal)]
    parts += [Text(), check_table(rehearsal.checks)]
    for one in rehearsal.checks:
        if one.advice is not None:
            parts.append(Padding(Text(f"{one.check}: {one.advice}"), (0, 0, 0, 2)))
    return Group(*parts)


def phase_table(phases: Sequence[Rehearsed]) -> Table:
    """A line for each phase."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("\nphase", no_wrap=True)
    for name in ("crop", "batch", "steps", "step", "peak", "valid-\nation", "check-\npoint", "start", "time"):
        table.add_column(name if "\n" in name else f"\n{name}", justify="right", no_wrap=True)
    table.add_column("\nstorage", justify="right", no_wrap=True)
    table.add_column("\nbegins with", no_wrap=True)
    for one in phases:
        table.add_row(*map(Text, row(one)))
    return table


def row(one: Rehearsed) -> tuple[str, ...]:
    """One phase in cells."""
    length = (one.length.name, str(one.crop), str(one.length.batch), f"{one.length.steps}")
    figures, estimate = one.figures, one.estimate
    if figures is None or estimate is None:
        return *length, "failed", *[""] * 7
    return (
        *length,
        f"{_seconds(figures.step.median)}{'*' if estimate.input_bound else ''}",
        size(figures.peak_bytes),
        _seconds(figures.validation_s),
        size(figures.checkpoint_bytes),
        _seconds(estimate.start_s),
        duration(estimate.seconds),
        size(estimate.bytes),
        _begins(one),
    )


def _begins(one: Rehearsed) -> str:
    """What was handed over, and whether the second start found it."""
    assert one.figures is not None
    taken, tensors = one.figures.donor_tensors
    share = "all" if taken == tensors else f"{taken} of {tensors}"
    donor = "fresh" if one.figures.donor is None else f"{one.figures.donor}, {share}"
    return donor if one.figures.restored else f"{donor} NOT RESTORED"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


def sentences(rehearsal: Rehearsal) -> list[str]:
    """The whole in words, with what it rests on and what is not in it."""
    whole, known = rehearsal.whole, [one for one in rehearsal.phases if one.figures is not None]
    unit = "GPU" if rehearsal.device == "cuda" else "worker"
    together = f", up to {rehearsal.room} curricula at once" if rehearsal.room > 1 else ""
    said = [
        f"The whole takes at most {duration(3600 * whole.hours)}{together}: {whole.worker_hours:.2g} "
        f"{unit}-hours, {size(whole.bytes)} of storage, {size(whole.most_bytes)} while it trains."
    ]
    if whole.missing:
        said.append(f"Without {', '.join(whole.missing)}, of which nothing is known.")
    again = sum(one.passed for one in known)
    said += [
        f"{again} of {len(rehearsal.phases)} phases began again from their checkpoint, all workers with its "
        "cursor and its weights.",
        *_grounds(known),
    ]
    left_out = "faults, waiting for room" + (
        ", the evaluation of RUNS/model" if rehearsal.writes_model else ""
    )
    said.append(f"At most, since a plateau may end a phase early. Not in it: {left_out}.")
    said.append(f"Rehearsed in {duration(rehearsal.seconds)}.")
    return said


def _grounds(known: Sequence[Rehearsed]) -> list[str]:
    """What the figures rest on."""
    steps = [one.figures.step for one in known if one.figures is not None]
    if not steps:
        return []
    apart = max((step.most - step.least) / step.median for step in steps)
    some, every = max(one.figures.validated for one in known if one.figures is not None)
    said = [
        f"Step: the median of those after the first; in a phase they lie up to {100 * apart:.0f} % apart. "
        f"Validation: from {some} of {every} textures."
    ]
    young = sum(not one.figures.is_steady for one in known if one.figures is not None)
    if young:
        said.append(
            f"Rough: in {young} of {len(known)} phases the steps after the first took less than a second "
            "together. `pbr train` says the time that is left once it has taken more."
        )
    if any(one.estimate.input_bound for one in known if one.estimate is not None):
        said.append("*: the streams deliver a batch more slowly, and their pace counts. Raise data_cpus.")
    return said


def check_table(checks: Sequence[Check]) -> Table:
    """A line for each check."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("needed", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for one in checks:
        mark, style = _MARKS[one.verdict]
        table.add_row(one.check, one.found, one.needed, Text(mark, style=style))
    return table

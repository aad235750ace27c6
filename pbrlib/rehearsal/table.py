"""Formats the report of a rehearsal for the terminal and as JSON values."""

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
from pbrlib.rehearsal.estimate import TotalEstimate
from pbrlib.rehearsal.ladder import PhaseRehearsal

FORMAT_VERSION = 1
WIDTH = 110

_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("FAILED", "bold red")}


@dataclass(frozen=True)
class Rehearsal:
    """The results of a rehearsal.

    Attributes:
        checks: The checks of the cluster.
        phases: The phases in the order in which they were rehearsed.
        whole: The estimate of all phases together.
        workers: Number of workers per phase.
        room: Maximum number of phases in parallel on the cluster.
        seconds: Duration of the rehearsal.
        device: Device of the workers: ``cuda`` or ``cpu``.
        writes_model: Whether the ladder ends with a model folder; its evaluation is not in the estimate.
    """

    checks: tuple[Check, ...]
    phases: tuple[PhaseRehearsal, ...]
    whole: TotalEstimate
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
        """Return the content of the ``--report`` file."""
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


def _phase(one: PhaseRehearsal) -> dict[str, Any]:
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
    """Render the report, at most ``WIDTH`` columns wide."""
    parts: list[RenderableType] = [phase_table(rehearsal.phases), Text()]
    parts += [Text(f"{one.length.name}: {one.error}", style="red") for one in rehearsal.phases if one.error]
    parts += [Text(line) for line in sentences(rehearsal)]
    parts += [Text(), check_table(rehearsal.checks)]
    for one in rehearsal.checks:
        if one.advice is not None:
            parts.append(Padding(Text(f"{one.check}: {one.advice}"), (0, 0, 0, 2)))
    return Group(*parts)


def phase_table(phases: Sequence[PhaseRehearsal]) -> Table:
    """Build the table of the phases, with one row each."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("\nphase", no_wrap=True)
    for name in ("crop", "batch", "steps", "step", "peak", "valid-\nation", "check-\npoint", "start", "time"):
        table.add_column(name if "\n" in name else f"\n{name}", justify="right", no_wrap=True)
    table.add_column("\nstorage", justify="right", no_wrap=True)
    table.add_column("\nstarts from", no_wrap=True)
    for one in phases:
        table.add_row(*map(Text, row(one)))
    return table


def row(one: PhaseRehearsal) -> tuple[str, ...]:
    """Return the table cells of a phase."""
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
        _donor_text(one),
    )


def _donor_text(one: PhaseRehearsal) -> str:
    """Return the donor of a phase with the number of copied tensors, and whether the resume failed."""
    assert one.figures is not None
    taken, tensors = one.figures.donor_tensors
    share = "all" if taken == tensors else f"{taken} of {tensors}"
    donor = "fresh" if one.figures.donor is None else f"{one.figures.donor}, {share}"
    return donor if one.figures.restored else f"{donor} NOT RESTORED"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


def sentences(rehearsal: Rehearsal) -> list[str]:
    """Return the total estimate in sentences, with its basis and what it does not include."""
    whole, known = rehearsal.whole, [one for one in rehearsal.phases if one.figures is not None]
    unit = "GPU" if rehearsal.device == "cuda" else "worker"
    together = f", up to {rehearsal.room} curricula in parallel" if rehearsal.room > 1 else ""
    lines = [
        f"The training takes at most {duration(3600 * whole.hours)}{together}: {whole.worker_hours:.2g} "
        f"{unit}-hours, {size(whole.bytes)} of storage, {size(whole.most_bytes)} during the training."
    ]
    if whole.missing:
        lines.append(f"Not included: {', '.join(whole.missing)}, which failed.")
    again = sum(one.passed for one in known)
    lines += [
        f"{again} of {len(rehearsal.phases)} phases resumed from their checkpoint; all workers had its step "
        "and its weights.",
        *_basis(known),
    ]
    left_out = "faults, waiting for resources" + (
        ", the evaluation of RUNS/model" if rehearsal.writes_model else ""
    )
    lines.append(f"A plateau may end a phase earlier. Not included: {left_out}.")
    lines.append(f"The rehearsal took {duration(rehearsal.seconds)}.")
    return lines


def _basis(known: Sequence[PhaseRehearsal]) -> list[str]:
    """Return sentences about the measurements behind the estimate."""
    steps = [one.figures.step for one in known if one.figures is not None]
    if not steps:
        return []
    apart = max((step.most - step.least) / step.median for step in steps)
    some, every = max(one.figures.validated for one in known if one.figures is not None)
    lines = [
        f"Step: the median of the steps after the first, which differ by up to {100 * apart:.0f} %. "
        f"Validation: extrapolated from {some} of {every} textures."
    ]
    young = sum(not one.figures.is_steady for one in known if one.figures is not None)
    if young:
        lines.append(
            f"Imprecise: in {young} of {len(known)} phases, the steps after the first took less than one "
            "second in total. `pbr train` shows a better estimate after more steps."
        )
    if any(one.estimate.input_bound for one in known if one.estimate is not None):
        lines.append(
            "*: the data streams are slower than the steps and determine the time. Set a larger data_cpus."
        )
    return lines


def check_table(checks: Sequence[Check]) -> Table:
    """Build the table of the checks, with one row each."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("needed", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for one in checks:
        mark, style = _MARKS[one.verdict]
        table.add_row(one.check, one.found, one.needed, Text(mark, style=style))
    return table

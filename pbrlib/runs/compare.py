"""Compares two runs: differences of their curricula, metrics and validation pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pbrlib.errors import DataError
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.runs.pictures import ValidationPicture, nearest_picture, pictures, same_input, side_by_side
from pbrlib.runs.record import Run

ABSENT = "-"
PANELS = "input, prediction, truth"
MAX_CELL_LENGTH = 60
"""Maximum number of characters of a mapping that a table cell shows."""


@dataclass(frozen=True)
class Difference:
    """A difference between two curricula at one address; a run without the value has None."""

    address: str
    ours: Any
    theirs: Any


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Return all differences of two curricula; a mapping that only one has is one difference."""
    return list(_differences(first, second, ""))


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str) -> Iterator[Difference]:
    for name in dict.fromkeys([*ours, *theirs]):
        first, second = ours.get(name), theirs.get(name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from _differences(first, second, f"{prefix}{name}.")
        elif first != second:
            yield Difference(f"{prefix}{name}", first, second)


@dataclass(frozen=True)
class Pair:
    """Two phases to compare: the same phase of two runs, or the last phase of each."""

    ours: PhaseFolder
    theirs: PhaseFolder

    @property
    def title(self) -> str:
        """The name of the phase, or both names."""
        names = dict.fromkeys((self.ours.phase, self.theirs.phase))
        return " | ".join(names)


def pairs(first: Run, second: Run) -> list[Pair]:
    """Return the phases that both runs have started; if none is common, the last phase of each."""
    ours, theirs = (
        {name: folder for name in run.phases if (folder := run.current(name)) is not None}
        for run in (first, second)
    )
    for run, started in ((first, ours), (second, theirs)):
        if not started:
            raise DataError(f"{run.path}: got no started phase; expected at least one. Train the run first.")
    common = [Pair(ours[name], theirs[name]) for name in ours if name in theirs]
    return common or [Pair(list(ours.values())[-1], list(theirs.values())[-1])]


def compared(first: Run, second: Run, *, found: Sequence[Pair]) -> Iterator[RenderableType]:
    """Yield tables of the differences and of the best checkpoints' metrics."""
    names = _titles(first, second)
    changed = [item for item in differences(first.declared, second.declared) if item.address != "name"]
    yield Text(f"{len(changed)} differences of the curricula", style="bold")
    if changed:
        table = _table("address", *names)
        for item in changed:
            table.add_row(*map(Text, (item.address, _plain(item.ours), _plain(item.theirs))))
        yield table
    for pair in found:
        yield ""
        yield from _figures(pair, names)


def _figures(pair: Pair, names: Sequence[str]) -> Iterator[RenderableType]:
    ours, theirs = pair.ours.best, pair.theirs.best
    if ours is None or theirs is None:
        missing = [name for name, best in zip(names, (ours, theirs), strict=True) if best is None]
        yield f"{pair.title}: no validation yet in {' and '.join(missing)}"
        return
    yield Text(f"{pair.title}: best at step {ours.step} | {theirs.step}", style="bold")
    table = _table("metric", *names, "difference")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in dict.fromkeys([*ours.metrics, *theirs.metrics]):
        values = [side.metrics.get(name, math.nan) for side in (ours, theirs)]
        gap = values[1] - values[0]
        table.add_row(
            Text(name),
            *(f"{value:.4f}" if math.isfinite(value) else ABSENT for value in values),
            f"{gap:+.4f}" if math.isfinite(gap) else ABSENT,
        )
    yield table


def contact_sheet(first: Run, second: Run, *, found: Sequence[Pair]) -> tuple[bytes | None, list[str]]:
    """Render the pictures of each pair at the best steps as a PNG file, and return remarks about them."""
    rows: list[tuple[str, ValidationPicture | None, str, ValidationPicture | None]] = []
    remarks = []
    names = _titles(first, second)
    for pair in found:
        sides = [_at_best(folder) for folder in (pair.ours, pair.theirs)]
        if not any(sides):
            continue
        captions = [
            f"{name} {folder.phase}, {f'step {side.step}' if side else 'no picture'}: {PANELS}"
            for name, folder, side in zip(names, (pair.ours, pair.theirs), sides, strict=True)
        ]
        rows.append((captions[0], sides[0], captions[1], sides[1]))
        if sides[0] and sides[1] and not same_input(sides[0], sides[1]):
            remarks.append(
                f"{pair.title}: the inputs differ, since the phases were validated on different data"
            )
    return (side_by_side(rows) if rows else None), remarks


def _at_best(folder: PhaseFolder) -> ValidationPicture | None:
    found = pictures(folder.path)
    step = folder.best.step if folder.best is not None else folder.progress[0]
    return nearest_picture(found, step)


def _titles(first: Run, second: Run) -> tuple[str, str]:
    """Return the names of two runs; equal names are preceded by their directories."""
    if first.name != second.name:
        return first.name, second.name
    ours, theirs = first.path.parts, second.path.parts
    for depth in range(2, max(len(ours), len(theirs)) + 1):
        if ours[-depth:][0] != theirs[-depth:][0]:
            return "/".join(ours[-depth:]), "/".join(theirs[-depth:])
    return first.name, second.name


def _plain(value: Any) -> str:
    """Format a value for a table cell; a short mapping is shown by its values."""
    if not isinstance(value, Mapping):
        return ABSENT if value is None else str(value)
    text = ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items())
    return text if len(text) <= MAX_CELL_LENGTH else "a mapping"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table

"""Formats the resolved plan of a run and its recorded environment as text."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.describe.description import describe
from pbrlib.curriculum.describe.layout import WIDTH
from pbrlib.curriculum.describe.tables import render
from pbrlib.curriculum.spec import Curriculum
from pbrlib.errors import PbrError
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.runs.record import Run
from pbrlib.train.record.rundirectory import CURRICULUM
from pbrlib.train.runtimespec import RuntimeSpec


def plan_text(run: Run) -> str:
    """Return the output of `pbr plan` for the run, or the reason why there is none."""
    path = run.path / CURRICULUM
    if not path.is_file():
        return f"{CURRICULUM} is missing."
    try:
        described = describe(load_curriculum(path), runtime=_runtime(run), curricula=_curricula_beside(path))
    except PbrError as error:
        return f"The plan cannot be shown by this version of pbr: {error}"
    console = Console(file=io.StringIO(), record=True, width=WIDTH, highlight=False, color_system=None)
    console.print(render(described))
    text: str = console.export_text()
    return "\n".join(line.rstrip() for line in text.splitlines())


def resolved_text(run: Run) -> str:
    """Return the text of the resolved curriculum in the run's folder."""
    path = run.path / CURRICULUM
    return path.read_text(encoding="utf-8") if path.is_file() else f"{CURRICULUM} is missing."


def environment_rows(folder: PhaseFolder) -> dict[str, str]:
    """Return the recorded environment of a phase, with the names of nested values joined by dots."""
    return dict(_flat(folder.environment()))


def _runtime(run: Run) -> RuntimeSpec:
    """Return the runtime of the phase that trained last; the default runtime if none is recorded."""
    known = [folder for folder in run.folders if "runtime" in folder.environment()]
    latest = max(known, key=lambda folder: folder.last_written, default=None)
    try:
        return RuntimeSpec() if latest is None else RuntimeSpec(**latest.environment()["runtime"])
    except (ValidationError, TypeError):
        return RuntimeSpec()


def _curricula_beside(path: Path) -> list[Curriculum]:
    """Return the curricula of the same runs directory that can be read."""
    curricula = []
    for file in sorted(path.parent.parent.glob(f"*/{CURRICULUM}")):
        try:
            curricula.append(load_curriculum(file))
        except PbrError:
            # Other curricula are only used to describe donors, so an unreadable one is left out.
            continue
    return curricula


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            rows += _flat(entry, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", "-" if entry is None else str(entry)))
    return rows

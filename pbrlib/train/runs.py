"""The directory of a run: one folder a phase, and a record of which phases are finished.

``RUNS/<curriculum>/run.json`` names, for each finished phase, its folder and its best checkpoint; donors,
evaluation and conversion find trained networks through it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pbrlib.data.storage import is_remote
from pbrlib.errors import CheckpointError
from pbrlib.train.state import Validated, is_complete

RECORD = "run.json"

MODEL = "model"
"""The folder in a runs directory that a finished ladder leaves; no curriculum may have this name."""


@dataclass(frozen=True)
class FinishedPhase:
    """A phase that ran to its end.

    ``checkpoint`` is its best one, relative to the run's directory, with its ``step`` and ``metrics``.
    ``history`` are all its validations, ``stopped`` what ended it before its last step, ``gate`` what its
    gate said.
    """

    fingerprint: str
    checkpoint: str
    step: int
    metrics: Mapping[str, float]
    seconds: float
    history: tuple[Validated, ...] = ()
    stopped: str | None = None
    gate: Mapping[str, Any] | None = None


class RunDirectory:
    """One curriculum's folder in a runs directory."""

    def __init__(self, runs: Path, *, name: str) -> None:
        self.name = name
        self.path = runs / name

    def phase_directory(self, phase: str, *, fingerprint: str) -> Path:
        """Where a phase keeps its checkpoints and its journal; an edited phase has another folder."""
        return self.path / phase_folder(phase, fingerprint=fingerprint)

    def finished(self, phase: str, *, fingerprint: str) -> FinishedPhase | None:
        """The record of a phase, if it is finished with this very fingerprint."""
        known = self.phases().get(phase)
        return known if known is not None and known.fingerprint == fingerprint else None

    def finish(self, phase: str, record: FinishedPhase, *, order: Sequence[str]) -> None:
        """Enters a phase that was just trained into the record, which keeps the curriculum's ``order``.

        Later phases are forgotten: what they were trained on is gone.
        """
        known = self.phases()
        earlier = {name: known[name] for name in order[: order.index(phase)] if name in known}
        self._write({**earlier, phase: record})

    def note_gate(self, phase: str, verdict: Mapping[str, Any]) -> None:
        """Enters what the gate of a finished phase said, beside what stands there."""
        phases = self.phases()
        self._write({**phases, phase: replace(phases[phase], gate=verdict)})

    def _write(self, phases: Mapping[str, FinishedPhase]) -> None:
        text = json.dumps({"phases": {name: asdict(entry) for name, entry in phases.items()}}, indent=1)
        write_atomically(self.path / RECORD, text)

    def phases(self) -> dict[str, FinishedPhase]:
        """The finished phases, in the order of the curriculum."""
        path = self.path / RECORD
        if not path.exists():
            return {}
        try:
            entries: dict[str, dict[str, Any]] = json.loads(path.read_text())["phases"]
            return {name: _finished(entry) for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: not a record of a run ({error}). Remove it to train again."
            ) from error

    def best(self, phase: str | None = None) -> tuple[Path, FinishedPhase]:
        """The best checkpoint of a finished phase, of the last one when none is named."""
        phases = self.phases()
        chosen = phase or next(reversed(phases), None)
        if chosen is None or chosen not in phases:
            have = ", ".join(phases) or "none"
            raise CheckpointError(
                f"{self.path}: no finished phase{f' {phase}' if phase else ''} (finished: {have}). "
                f"Train it first: pbr train <curriculum of {self.name}> --runs {self.path.parent}"
            )
        folder = self.path / phases[chosen].checkpoint
        if not is_complete(folder):
            raise CheckpointError(
                f"{folder}: the best checkpoint of {chosen} is gone. "
                f"Remove {self.path / RECORD} and train again."
            )
        return folder, phases[chosen]


def _finished(entry: dict[str, Any]) -> FinishedPhase:
    history = tuple(Validated(**validated) for validated in entry.pop("history", ()))
    return FinishedPhase(**entry, history=history)


def phase_folder(phase: str, *, fingerprint: str) -> str:
    """The name of a phase's folder."""
    return f"{phase}-{fingerprint[:8]}"


def write_atomically(path: Path, text: str) -> None:
    """Writes beside and renames, or puts an object: a reader sees the old text or the new one."""
    if is_remote(path):
        path.write_text(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)

"""The directory of a run: one folder per phase, and ``run.json``, the record of finished phases.

``RUNS/<curriculum>/run.json`` has the best checkpoint of each finished phase. Donors, evaluation and
conversion use it to find trained networks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pbrlib import storage
from pbrlib.errors import CheckpointError
from pbrlib.train.checkpoint.state import Validated, is_complete

RECORD = "run.json"

CURRICULUM = "curriculum.yaml"
"""Name of the resolved curriculum in a run's folder, overrides included."""

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of checkpoints, which older versions left in a phase's folder."""

LADDER = "ladder.json"
"""Name of the file with the state of every phase of a ladder, in the runs directory."""

MODEL = "model"
"""Name of the model folder that a finished ladder writes; no curriculum may have this name."""


@dataclass(frozen=True)
class FinishedPhase:
    """The record of a finished phase.

    ``checkpoint`` is the best checkpoint, relative to the run's directory, with its ``step`` and ``metrics``.
    ``history`` holds all validations, ``stopped`` the reason for an early end, ``gate`` the gate's verdict.
    """

    fingerprint: str
    checkpoint: str
    step: int
    metrics: Mapping[str, float]
    seconds: float
    history: tuple[Validated, ...] = ()
    stopped: str | None = None
    gate: Mapping[str, Any] | None = None


_PHASES = TypeAdapter(dict[str, FinishedPhase], config=ConfigDict(extra="forbid", strict=True))


class RunDirectory:
    """One curriculum's folder in a runs directory."""

    def __init__(self, runs: Path, *, name: str) -> None:
        self.name = name
        self.path = runs / name

    def phase_directory(self, phase: str, *, fingerprint: str) -> Path:
        """Return the folder of a phase's checkpoints and journal; an edited phase has another folder."""
        return self.path / phase_folder(phase, fingerprint=fingerprint)

    def finished(self, phase: str, *, fingerprint: str) -> FinishedPhase | None:
        """Return the record of a phase if it is finished with this fingerprint, else None."""
        known = self.phases().get(phase)
        return known if known is not None and known.fingerprint == fingerprint else None

    def has_weights(self, phase: str) -> bool:
        """Return whether the best checkpoint of a finished phase exists."""
        return is_complete(self.path / self.phases()[phase].checkpoint)

    def finish(self, phase: str, record: FinishedPhase, *, order: Sequence[str]) -> None:
        """Add a phase that has just finished to the record, in the curriculum's ``order``.

        Later phases are removed from the record, since they were trained from the previous result.
        """
        known = self.phases()
        earlier = {name: known[name] for name in order[: order.index(phase)] if name in known}
        self._write({**earlier, phase: record})

    def note_gate(self, phase: str, verdict: Mapping[str, Any]) -> None:
        """Add the gate's verdict to the record of a finished phase."""
        phases = self.phases()
        self._write({**phases, phase: replace(phases[phase], gate=verdict)})

    def _write(self, phases: Mapping[str, FinishedPhase]) -> None:
        text = json.dumps({"phases": {name: asdict(entry) for name, entry in phases.items()}}, indent=1)
        storage.write_atomic(self.path / RECORD, text)

    def phases(self) -> dict[str, FinishedPhase]:
        """Read the finished phases in the curriculum's order; raises CheckpointError for a damaged record."""
        path = self.path / RECORD
        if not path.exists():
            return {}
        try:
            return _PHASES.validate_json(json.dumps(json.loads(path.read_text())["phases"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                reason = f"{'.'.join(map(str, ('phases', *first['loc'])))}: {first['msg']}"
            raise CheckpointError(
                f"{path}: not a record of a run ({reason}). Remove it to train again."
            ) from error

    def best(self, phase: str | None = None) -> tuple[Path, FinishedPhase]:
        """Return the best checkpoint and the record of a finished phase; None means the last phase."""
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
                f"{folder}: the best checkpoint of {chosen} is gone. Train it again: "
                f"pbr train <curriculum of {self.name}> --phases {chosen} --runs {self.path.parent}"
            )
        return folder, phases[chosen]


def phase_folder(phase: str, *, fingerprint: str) -> str:
    """Return the name of a phase's folder."""
    return f"{phase}-{fingerprint[:8]}"

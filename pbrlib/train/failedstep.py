"""Stores the state before a step whose loss or gradient was not finite, so that the step can be replayed.

``failed-step`` in the folder of a phase has the layout of a checkpoint, but a resumed run ignores it. The
next failed step replaces it, and a phase that finishes removes it. If a later turn of the step failed, other
players have already been updated; then only the record is stored, and a replay starts from the newest
checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.errors import CheckpointError
from pbrlib.train.checkpoint.players import Learned, save
from pbrlib.train.checkpoint.state import UNFINISHED, State
from pbrlib.train.phase import PhaseRun

FAILED_STEP, STEP = "failed-step", "step.json"


@dataclass(frozen=True)
class StepRecord:
    """The record of one optimizer step.

    ``data`` is the location of the shards; ``samples`` are the ids of each rank in the order of their
    positions; ``figures`` are the total loss, the gradient norm and the loss terms by name of the failed
    turn, the ``turn``-th of the step, by ``player``. Records of older versions have no player.
    """

    step: int
    data: str
    samples: Sequence[Sequence[str]]
    figures: Mapping[str, float]
    player: str | None = None
    turn: int = 0

    @property
    def world_size(self) -> int:
        """The number of ranks of the step."""
        return len(self.samples)


def keep_failed_step(
    run: PhaseRun,
    learned: Mapping[str, Learned],
    record: StepRecord,
    *,
    declarations: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the step and, if no player has been updated, the state before it; raises CheckpointError."""
    state = State(
        phase=run.name,
        fingerprint=run.fingerprint,
        step=record.step,
        total_steps=run.plan.total_steps,
        metrics={},
        players=declarations,
        frozen=run.frozen,
    )
    folder = storage.make_unfinished(run.directory, prefix=UNFINISHED)
    if record.turn == 0:
        save(folder, state=state, learned=learned)
    (folder / STEP).write_text(json.dumps(asdict(record), indent=1))
    storage.move_folder(folder, run.directory / FAILED_STEP, last=STEP)


def read_failed_step(directory: Path) -> StepRecord | None:
    """Read the failed step of a phase; None if there is none. Raises CheckpointError."""
    path = directory / FAILED_STEP / STEP
    if not path.is_file():
        return None
    try:
        return StepRecord(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not the record of a step ({error}). Remove {path.parent}, or name a step: --step N."
        ) from error

"""Continues a phase without its damaged checkpoints, with a warning and a line in the journal.

Restoring a checkpoint verifies its checksums, so an undamaged phase has no extra cost. The process that
launches a phase sets damaged checkpoints aside between two attempts, while no rank trains, so all ranks find
the same newest checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pbrlib.errors import CheckpointError, DamagedCheckpointError
from pbrlib.train.checkpoint.players import verify
from pbrlib.train.checkpoint.state import SET_ASIDE, STATE, checkpoints, read_state
from pbrlib.train.record.journal import FALLBACK, note_between_attempts

_log = logging.getLogger(__name__)

Done = TypeVar("Done")


def retry_without_damaged(directory: Path, attempt: Callable[[], Done]) -> Done:
    """Train a phase; if one of its checkpoints is damaged, set the checkpoint aside and try again.

    Args:
        directory: The folder of the phase.
        attempt: Trains the phase from its newest checkpoint.

    Raises:
        CheckpointError: All checkpoints are damaged; nothing is changed.
        DamagedCheckpointError: Another checkpoint, such as a donor's, is damaged.
    """
    while True:
        try:
            return attempt()
        except DamagedCheckpointError:
            damaged, undamaged = _damaged_among(directory)
            if not damaged:
                raise
        _report_fallback(directory, damaged, undamaged=undamaged)
        for folder in damaged:
            _set_aside(folder)


def _damaged_among(directory: Path) -> tuple[Mapping[Path, str], Path]:
    """Return the damaged checkpoints with their errors, the newest first, and the newest undamaged one."""
    found, damaged = checkpoints(directory), dict[Path, str]()
    for folder in reversed(found):
        try:
            verify(folder)
        except DamagedCheckpointError as error:
            damaged[folder] = str(error)
    undamaged = [folder for folder in found if folder not in damaged]
    if damaged and not undamaged:
        raise CheckpointError(
            f"{directory}: got only damaged checkpoints; expected an undamaged one. "
            f"{' '.join(damaged.values())} "
            "Restore a copy of one, or remove the folder to train the phase from its beginning."
        )
    return damaged, max(undamaged, default=directory)


def _report_fallback(directory: Path, damaged: Mapping[Path, str], *, undamaged: Path) -> None:
    """Log the damaged checkpoints and write them to the journal."""
    state = read_state(undamaged)
    names = " and ".join(folder.name for folder in damaged)
    cost = "which can no longer be the best"
    if max(damaged) > undamaged:
        cost = f"the steps from {state.step} on are trained again"
    message = f"{names} damaged, continuing from {undamaged.name}; {cost}. {' '.join(damaged.values())}"
    _log.warning("%s: %s", directory, message)
    note_between_attempts(directory, FALLBACK, step=state.step, values={"complaint": message})


def _set_aside(folder: Path) -> None:
    """Rename ``state.json``, so that the folder no longer counts as a checkpoint and can be replaced."""
    state = folder / STATE
    if state.is_file():
        (folder / SET_ASIDE).write_bytes(state.read_bytes())
        state.unlink()

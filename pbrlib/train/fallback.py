"""What happens when a checkpoint of a phase is damaged: it goes on without that one, loudly.

Whoever restores a checkpoint compares its sums, and whoever looks for the best those of its figures, so
looking costs nothing where all is well. The process that launches a phase decides, between two attempts, when
nobody trains: all ranks find the same newest checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pbrlib.errors import CheckpointError, DamagedCheckpointError
from pbrlib.train.checkpoint.players import verify
from pbrlib.train.checkpoint.state import SET_ASIDE, STATE, checkpoints, read_state
from pbrlib.train.record.journal import FALLBACK, note_between_attempts

_log = logging.getLogger(__name__)

Done = TypeVar("Done")


def retry_past_damage(
    directory: Path,
    attempt: Callable[[], Done],
    *,
    candidates: Callable[[Path], Sequence[Path]] = checkpoints,
    forget: Callable[[Path, Sequence[str]], None] = lambda directory, names: None,
) -> Done:
    """Trains a phase; each time one of its checkpoints proves damaged, sets that aside and tries again.

    Args:
        directory: The folder of the phase.
        attempt: Trains it from the newest checkpoint that it finds.
        candidates: The checkpoints among which it finds that, the oldest first.
        forget: Removes checkpoints, by name, from where else they are listed.

    Raises:
        CheckpointError: None of the checkpoints is whole; nothing is changed then.
        DamagedCheckpointError: A checkpoint that is not one of these, such as a donor's.
    """
    while True:
        try:
            return attempt()
        except DamagedCheckpointError:
            damaged, whole = _damaged_among(candidates(directory), directory=directory)
            if not damaged:
                raise
        _tell(directory, damaged, whole=whole)
        forget(directory, [folder.name for folder in damaged])
        for folder in damaged:
            _set_aside(folder)


def _damaged_among(found: Sequence[Path], *, directory: Path) -> tuple[Mapping[Path, str], Path]:
    """The damaged ones, the newest first, with what is wrong with each; and the newest whole one."""
    damaged: dict[Path, str] = {}
    for folder in reversed(found):
        try:
            verify(folder)
        except DamagedCheckpointError as error:
            damaged[folder] = str(error)
    whole = [folder for folder in found if folder not in damaged]
    if damaged and not whole:
        raise CheckpointError(
            f"{directory}: none of its checkpoints is whole. {' '.join(damaged.values())} "
            "Put back a copy of one, or remove the folder to train the phase from its beginning."
        )
    return damaged, max(whole, default=directory)


def _tell(directory: Path, damaged: Mapping[Path, str], *, whole: Path) -> None:
    """Says it where the command is watched, and in the journal for ever."""
    state = read_state(whole)
    names = " and ".join(folder.name for folder in damaged)
    cost = "which can no longer be the best"
    if max(damaged) > whole:
        cost = f"the steps from {state.step} on are trained again"
    complaint = f"{names} damaged, going on from {whole.name}; {cost}. {' '.join(damaged.values())}"
    _log.warning("%s: %s", directory, complaint)
    note_between_attempts(directory, FALLBACK, step=state.step, values={"complaint": complaint})


def _set_aside(folder: Path) -> None:
    """Makes a folder no checkpoint; the next one of its name takes its place."""
    state = folder / STATE
    if state.is_file():
        (folder / SET_ASIDE).write_bytes(state.read_bytes())
        state.unlink()

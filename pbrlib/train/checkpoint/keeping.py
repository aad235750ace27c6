"""Retention of checkpoints: keeps the best one and the two newest, as one of these can be damaged."""

from __future__ import annotations

import logging
from pathlib import Path

from pbrlib import storage
from pbrlib.errors import DataError
from pbrlib.train.checkpoint.state import SET_ASIDE, STATE, checkpoints, is_complete, read_state
from pbrlib.train.runtimespec import Selection

_log = logging.getLogger(__name__)


def best_checkpoint(directory: Path, selection: Selection) -> Path | None:
    """Return the complete checkpoint with the best selection metric, the newest of equals.

    None if there is no checkpoint with metrics; those written before a preemption have none.
    """
    states = [(read_state(folder), folder) for folder in checkpoints(directory)]
    scored = [(selection.score(state.metrics), folder) for state, folder in states if state.metrics]
    return max(scored, default=(0.0, None), key=lambda pair: (pair[0], str(pair[1])))[1]


def remove_others(directory: Path, selection: Selection) -> None:
    """Remove the checkpoints that are not kept, and the rest of a removal that was interrupted.

    A folder that cannot be removed only takes space, so it causes a warning. Raises DamagedCheckpointError
    for a checkpoint whose metrics cannot be read.
    """
    found = checkpoints(directory)
    if len(found) <= 2:
        return
    keep = {*found[-2:], best_checkpoint(directory, selection)}
    for folder in sorted(directory.glob("checkpoint_*")):
        if folder < found[-1] and folder not in keep and not _is_set_aside(folder):
            try:
                storage.remove_folder(folder, first=STATE)
            except (OSError, DataError) as error:
                _log.warning("%s: not removed (%s); the next checkpoint tries again", folder, error)


def _is_set_aside(folder: Path) -> bool:
    return not is_complete(folder) and (folder / SET_ASIDE).is_file()

"""Which checkpoints of a phase are kept: the two newest, of which one may prove damaged, and the best."""

from __future__ import annotations

from pathlib import Path

from pbrlib.data.storage import remove_folder
from pbrlib.train.spec import Selection
from pbrlib.train.state import STATE, checkpoints, read_state


def best_checkpoint(directory: Path, selection: Selection) -> Path | None:
    """The complete checkpoint with the best selection metric, the newest of equals.

    None where there is none, or only such as were written because a node was to be taken away.
    """
    states = [(read_state(folder), folder) for folder in checkpoints(directory)]
    scored = [(selection.score(state.metrics), folder) for state, folder in states if state.metrics]
    return max(scored, default=(0.0, None), key=lambda pair: (pair[0], str(pair[1])))[1]


def remove_others(directory: Path, selection: Selection) -> None:
    """Removes the checkpoints that are not kept. Raises DataError, CheckpointError, OSError."""
    found = checkpoints(directory)
    if len(found) <= 2:
        return
    keep = {*found[-2:], best_checkpoint(directory, selection)}
    for folder in found:
        if folder not in keep:
            remove_folder(folder, first=STATE)

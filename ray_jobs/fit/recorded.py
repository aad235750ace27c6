"""Read and repair Ray Train's record of a phase's checkpoints, from which Ray resumes."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.train.checkpoint.state import checkpoints
from pbrlib.train.record.rundirectory import SNAPSHOT

_log = logging.getLogger(__name__)


def recorded(directory: Path) -> list[Path]:
    """Return the checkpoints in Ray's record of a phase, oldest first; their folders may be missing."""
    results = _read(directory)["checkpoint_results"] if (directory / SNAPSHOT).is_file() else []
    return sorted(directory / one["checkpoint_dir_name"] for one in results)


def resumable(directory: Path) -> list[Path]:
    """The checkpoints from which a fit may go on, the oldest first: those, and what Ray had yet to record."""
    there = _names(directory)
    return sorted({one for one in recorded(directory) if one.name in there} | {*checkpoints(directory)})


def forget_checkpoints(directory: Path, names: Collection[str]) -> None:
    """Makes Ray resume from the newest of the others, and never call one of these the best.

    Only between two fits, since a running one has the record in its memory. Ray would list a checkpoint that
    is reported again beside the old one of its name, and remove the folder of both with the worse.
    """
    if not (directory / SNAPSHOT).is_file():
        return
    content = _read(directory)
    pairs = zip(content["checkpoint_results"], content["checkpoint_report_indices"], strict=True)
    kept = [(one, index) for one, index in pairs if one["checkpoint_dir_name"] not in names]
    content["checkpoint_results"] = [one for one, _ in kept]
    content["checkpoint_report_indices"] = [index for _, index in kept]
    content["latest_checkpoint_result"] = max(kept, key=lambda pair: int(pair[1]), default=(None,))[0]
    storage.write_atomic(directory / SNAPSHOT, json.dumps(content))


def repair_record(directory: Path) -> None:
    """Repair Ray's record of a phase so that a fit can start from it.

    It names every checkpoint that was ever reported, and Ray looks for all of them: those that were not kept
    are forgotten. One that cannot be read is removed: Ray writes its record over the old one, so a power cut
    or a full disk may leave half of it. The next attempt enters the checkpoints that are there.
    """
    path, there = directory / SNAPSHOT, _names(directory)
    try:
        gone = [one.name for one in recorded(directory) if one.name not in there]
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("%s: is damaged (%s); the checkpoints that are there are entered anew", path, error)
        path.unlink()
        return
    if gone:
        if gone[-1] > max((one.name for one in checkpoints(directory)), default=""):
            _log.warning("%s: names %s, which is gone; it goes on without", path, gone[-1])
        forget_checkpoints(directory, gone)


def _names(directory: Path) -> set[str]:
    """Return the names of the entries in a phase's folder."""
    return {one.name for one in directory.iterdir()}


def _read(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / SNAPSHOT).read_text())
    return content

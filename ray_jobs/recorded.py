"""Ray Train's own record of a phase's checkpoints, by which it resumes and names the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbrlib.train.runs import write_atomically
from pbrlib.train.state import checkpoints

RECORD = "checkpoint_manager_snapshot.json"


def recorded(directory: Path) -> list[Path]:
    """The checkpoints of a phase that Ray knows, the oldest first, whether they are there or not."""
    results = _read(directory)["checkpoint_results"] if (directory / RECORD).is_file() else []
    return sorted(directory / one["checkpoint_dir_name"] for one in results)


def resumable(directory: Path) -> list[Path]:
    """The checkpoints from which a fit may go on, the oldest first: those, and what Ray had yet to record."""
    return sorted({*recorded(directory), *checkpoints(directory)})


def forget(directory: Path, names: Sequence[str]) -> None:
    """Makes Ray resume from the newest of the others, and never call one of these the best.

    Only between two fits, since a running one has the record in its memory. Ray would list a checkpoint that
    is reported again beside the old one of its name, and remove the folder of both with the worse.
    """
    if not (directory / RECORD).is_file():
        return
    content = _read(directory)
    pairs = zip(content["checkpoint_results"], content["checkpoint_report_indices"], strict=True)
    kept = [(one, index) for one, index in pairs if one["checkpoint_dir_name"] not in names]
    content["checkpoint_results"] = [one for one, _ in kept]
    content["checkpoint_report_indices"] = [index for _, index in kept]
    content["latest_checkpoint_result"] = max(kept, key=lambda pair: int(pair[1]), default=(None,))[0]
    write_atomically(directory / RECORD, json.dumps(content))


def _read(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / RECORD).read_text())
    return content

"""Finds the evaluation of a run's networks in its runs directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pbrlib.evaluate.evaluationreport import FILE
from pbrlib.evaluate.scores import NET
from pbrlib.maps import CLASSES
from pbrlib.runs.jsonfile import read_leniently
from pbrlib.runs.record import Run

_PLACES = ("evaluation", "model/evaluation", "model-evaluation")
"""Folders in a runs directory to which `pbr evaluate` and a finished ladder write an evaluation."""


@dataclass(frozen=True)
class RunEvaluation:
    """The evaluation of the network of one run.

    Attributes:
        path: The ``evaluation.json``.
        title: Description of the evaluated textures.
        figures: Metric -> its entry in the file: methods, intervals, verdict.
        confusion: Pixel counts by (true class, predicted class); None if the task is not segmentation.
    """

    path: Path
    title: str
    figures: Mapping[str, Mapping[str, Any]]
    confusion: np.ndarray[Any, np.dtype[np.int64]] | None


def evaluation_of(run: Run) -> RunEvaluation | None:
    """Return the newest evaluation of one of the run's networks; None if there is none."""
    prints = {done.fingerprint for done in run.finished.values()}
    found = [run.path.parent / place / FILE for place in _PLACES]
    for path in sorted(
        (path for path in found if path.is_file()), key=lambda path: path.stat().st_mtime, reverse=True
    ):
        data = read_leniently(path)
        measured = data.get("checkpoints", {}).get(run.name, {})
        if measured.get("fingerprint") in prints:
            return _read_evaluation(run, path, data)
    return None


def _read_evaluation(run: Run, path: Path, data: Mapping[str, Any]) -> RunEvaluation:
    kind = run.declared.get("task", {}).get("kind", "")
    matrices = list(data.get("confusions", {}).get(NET, {}).values()) if kind == "segmentation" else []
    shape = (len(CLASSES), len(CLASSES))
    known = [matrix for matrix in map(np.asarray, matrices) if matrix.shape == shape]
    confusion = np.sum(known, axis=0) if known else None
    return RunEvaluation(path, data.get("title", ""), data.get("maps", {}).get(kind, {}), confusion)

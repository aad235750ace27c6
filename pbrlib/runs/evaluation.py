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
"""Below a runs directory: where `pbr evaluate` and a finished ladder leave theirs."""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation says of one run.

    Attributes:
        path: The file.
        title: What was measured.
        figures: Metric -> what stands in the file about it: methods, intervals, the verdict.
        confusion: Pixels by (true class, predicted class); None of a run that tells no classes apart.
    """

    path: Path
    title: str
    figures: Mapping[str, Mapping[str, Any]]
    confusion: np.ndarray[Any, np.dtype[np.int64]] | None


def evaluation_of(run: Run) -> Evaluated | None:
    """Return the newest evaluation of one of the run's networks; None if there is none."""
    prints = {done.fingerprint for done in run.finished.values()}
    found = [run.path.parent / place / FILE for place in _PLACES]
    for path in sorted(
        (path for path in found if path.is_file()), key=lambda one: one.stat().st_mtime, reverse=True
    ):
        data = read_leniently(path)
        measured = data.get("checkpoints", {}).get(run.name, {})
        if measured.get("fingerprint") in prints:
            return _of(run, path, data)
    return None


def _of(run: Run, path: Path, data: Mapping[str, Any]) -> Evaluated:
    kind = run.declared.get("task", {}).get("kind", "")
    matrices = list(data.get("confusions", {}).get(NET, {}).values()) if kind == "segmentation" else []
    shape = (len(CLASSES), len(CLASSES))
    known = [matrix for matrix in map(np.asarray, matrices) if matrix.shape == shape]
    confusion = np.sum(known, axis=0) if known else None
    return Evaluated(path, data.get("title", ""), data.get("maps", {}).get(kind, {}), confusion)

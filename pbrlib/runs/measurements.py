"""Renders the metrics of a run's HTML page: IoU by class, evaluation, confusion matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from pbrlib.evaluate.compare import Verdict
from pbrlib.evaluate.scores import NET
from pbrlib.maps import CLASSES
from pbrlib.runs.evaluation import RunEvaluation
from pbrlib.runs.phasefolder import PhaseFolder

_IOU = "val/all/segmentation/iou/"


def class_figures(folders: Sequence[PhaseFolder]) -> Iterator[str]:
    """Yield a table of the metrics of each phase's best checkpoint; for segmentation, the IoU by class."""
    best = {folder.phase: folder.best for folder in folders}
    known = {phase: point.metrics for phase, point in best.items() if point is not None}
    all_names = dict.fromkeys(name for metrics in known.values() for name in metrics)
    names = [name for name in all_names if name.startswith(_IOU)]
    if names:
        yield "<h3>IoU by class at the best checkpoint, all sources</h3>"
        heads = "".join(f"<th class=n>{escape(phase)}</th>" for phase in known)
        yield f"<div class=wide><table class=matrix><tr><th></th>{heads}</tr>"
        for name in names:
            cells = "".join(_cell(metrics.get(name)) for metrics in known.values())
            yield f"<tr><th>{escape(name.removeprefix(_IOU))}</th>{cells}</tr>"
        yield "</table></div>"
    elif known:
        yield "<h3>Best checkpoints</h3>"
        heads = "".join(f"<th class=n>{escape(phase)}</th>" for phase in known)
        yield f"<div class=wide><table><tr><th></th>{heads}</tr>"
        for name in all_names:
            cells = "".join(
                f"<td class=n>{metrics[name]:.4f}</td>" if name in metrics else "<td></td>"
                for metrics in known.values()
            )
            yield f"<tr><td>{escape(name)}</td>{cells}</tr>"
        yield "</table></div>"


def evaluated(found: RunEvaluation | None) -> Iterator[str]:
    """Yield a table of an evaluation with the strongest baselines, and its confusion matrix."""
    if found is None:
        yield "<p class=quiet>There is no evaluation of this run. Run pbr evaluate to write one.</p>"
        return
    yield f"<h3>{escape(found.title)}</h3><p class=quiet>{escape(str(found.path))}</p>"
    yield "<div class=wide>"
    yield "<table><tr><th>metric</th><th class=n>net [95 %]</th>"
    yield "<th>strongest baseline</th><th>net is</th></tr>"
    for name, figure in found.figures.items():
        cells = [name, _interval(figure["methods"][NET]), _baseline(figure), _verdict(figure)]
        marks = ("", " class=n", "", "")
        row = "".join(f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, cells, strict=True))
        yield f"<tr>{row}</tr>"
    yield "</table></div>"
    if found.confusion is not None:
        yield from confusion_table(found.confusion)


def confusion_table(matrix: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[str]:
    """Yield a table with true classes as rows and predicted classes as columns; rows sum to 1."""
    yield "<h3>Confusion matrix: share of the pixels of the true class (row) by predicted class (column)</h3>"
    heads = "".join(f"<th>{name}</th>" for name in CLASSES)
    yield f"<div class=wide><table class=matrix><tr><th></th>{heads}<th>pixels</th></tr>"
    for name, counts in zip(CLASSES, matrix, strict=True):
        total = int(counts.sum())
        cells = "".join(_cell(float(count) / total if total else None) for count in counts)
        yield f"<tr><th>{name}</th>{cells}<td>{total:,}</td></tr>"
    yield "</table></div>"


def _cell(share: float | None) -> str:
    """Return a table cell for a value in [0, 1], with a darker background for a larger value."""
    if share is None:
        return "<td>-</td>"
    strength = min(max(share, 0.0), 1.0)
    ink = "#fff" if strength > 0.55 else "#1c1c1c"
    return f'<td style="background:rgba(0,114,178,{0.9 * strength:.3f});color:{ink}">{share:.3f}</td>'


def _interval(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _verdict(figure: Any) -> str:
    """Return the verdict in the current words, also of a file of an older version."""
    text = str(figure.get("verdict", ""))
    try:
        return Verdict(text).value
    except ValueError:
        return text


def _baseline(figure: Any) -> str:
    name = figure.get("best_baseline")
    return "-" if name is None else f"{name}: {figure['methods'][name]['mean']:.3f}"

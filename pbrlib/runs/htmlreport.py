"""A run, or those of a ladder, as one HTML page that needs nothing beside it: no script, font or address."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from types import MappingProxyType

from pbrlib.curriculum.describe.phrases import duration
from pbrlib.maps import CLASS_COLOURS, CLASSES
from pbrlib.runs.chart import COLOURS, line_chart
from pbrlib.runs.evaluation import evaluation_of
from pbrlib.runs.htmlpage import document, moment, table
from pbrlib.runs.measurements import class_figures, evaluated
from pbrlib.runs.phasefolder import PhaseFolder, Point
from pbrlib.runs.pictures import Shown, pictures, small
from pbrlib.runs.record import Run
from pbrlib.runs.resolvedplan import environment_rows, plan_text, resolved_text
from pbrlib.runs.tables import LABELS, phase_cells
from pbrlib.runs.walltime import WallTime, account_of_run
from pbrlib.train.record.journal import GPU_PEAK

MOST_PICTURES = 24
"""Of a phase; of more validations evenly spread ones are shown, the first and the last among them."""
LADDER_PICTURES = 6
"""Of a phase in a page of several runs."""
PICTURE_WIDTH = 720

_HEADINGS = ("phase", "state", "best", "step", "wall time", "gate", "written")


def page(run: Run, *, now: float) -> str:
    """Return the whole page of a run.

    Curves, the pictures of every validation, per-class IoU, the confusion matrix where an evaluation lies
    beside the run, wall time, the resolved plan and the environment.
    """
    return document(run.name, _head(run, now=now) + _sections(run, anchor="run", now=now))


def page_of_runs(runs: Sequence[Run], *, title: str, now: float) -> str:
    """Return one page of several runs, as those of a ladder: a table of all phases, then each run whole."""
    rows, anchors = [], []
    for number, run in enumerate(runs, start=1):
        for place, phase in enumerate(run.phases, start=1):
            rows.append([f"{run.name}/{phase}", *phase_cells(run, phase, now=now)[1:], _written(run, phase)])
            anchors.append(f"run-{number}" if run.current(phase) is None else f"run-{number}-{place}")
    head = f"<h1>{escape(title)}</h1><p class=quiet>{len(runs)} runs, as of {moment(now)}</p>"
    links = " · ".join(
        f'<a href="#run-{number}">{escape(run.name)}</a> {run.state(now=now)}'
        for number, run in enumerate(runs, start=1)
    )
    body = "".join(
        f'<section id="run-{number}">{_head(run, now=now)}'
        f"{_sections(run, anchor=f'run-{number}', now=now, most_pictures=LADDER_PICTURES)}</section>"
        for number, run in enumerate(runs, start=1)
    )
    return document(title, f"{head}<p>{links}</p>{table(_HEADINGS, rows, anchors=anchors)}{body}")


def _head(run: Run, *, now: float) -> str:
    about = f"{run.state(now=now)} as of {moment(now)} · {run.path}"
    return f"<h1>{escape(run.name)}</h1><p class=quiet>{escape(about)}</p>"


def _sections(run: Run, *, anchor: str, now: float, most_pictures: int = MOST_PICTURES) -> str:
    current = [folder for name in run.phases if (folder := run.current(name)) is not None]
    ids = {folder.phase: f"{anchor}-{run.phases.index(folder.phase) + 1}" for folder in current}
    sheets = partial(_sheet, most=most_pictures)
    sections = [
        ("Phases", _phases(run, ids, now=now)),
        ("Curves", _each(current, _curves, ids=ids)),
        ("Figures", [*class_figures(current), *evaluated(evaluation_of(run))]),
        ("Pictures: input, prediction, truth", _each(current, sheets)),
        ("Wall time", _wall_time(run)),
        ("Plan", _plan(run)),
        ("Environment", _environment(current)),
    ]
    return "".join(f"<h2>{title}</h2>{''.join(parts)}" for title, parts in sections)


def _each(
    folders: Sequence[PhaseFolder],
    section: Callable[[PhaseFolder], Iterator[str]],
    *,
    ids: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    for folder in folders:
        mark = f' id="{ids[folder.phase]}"' if folder.phase in ids else ""
        yield f"<h3{mark}>{escape(folder.phase)} <span class=quiet>{escape(folder.path.name)}</span></h3>"
        yield from section(folder)


def _phases(run: Run, ids: Mapping[str, str], *, now: float) -> Iterator[str]:
    rows = [(*phase_cells(run, name, now=now), _written(run, name)) for name in run.phases]
    yield table(_HEADINGS, rows, anchors=[ids.get(name, "") for name in run.phases])
    for name in run.phases:
        if reason := run.reason(name):
            yield f"<p>{escape(f'{name}: {reason}')}</p>"


def _written(run: Run, phase: str) -> str:
    folder = run.current(phase)
    return "" if folder is None else moment(folder.last_written)


def _curves(folder: PhaseFolder) -> Iterator[str]:
    steps, history = folder.steps, folder.history
    names = dict.fromkeys(name for line in steps for name in line)
    terms = [name for name in names if name.startswith("train/")]
    drawn = [line_chart("loss and its terms, training", _lines(steps, terms))]
    select = folder.select
    measured = list(dict.fromkeys(name for point in history for name in point.metrics))
    losses = [name for name in measured if name.endswith("/loss")]
    drawn.append(line_chart("loss, validation; by source", _points(history, losses)))
    if select is not None:
        best = folder.best
        sources = [name for name in measured if name.split("/")[2:] == select.metric.split("/")[2:]]
        mark = None if best is None else (best.step, best.metrics[select.metric])
        title = f"{select.metric}, {select.mode}; by source"
        drawn.append(line_chart(title, _points(history, sources), mark=mark))
    # A group's part without decay learns at the rate of the group.
    rates = [name for name in names if name.startswith("rate/") and not name.endswith("/no_decay")]
    drawn.append(line_chart("learning rates", _lines(steps, rates)))
    norms = {
        name.rpartition("/")[0] or "gradient": [(line["step"], line[name]) for line in steps if name in line]
        for name in names
        if name.rpartition("/")[2] == "gradient_norm"
    }
    drawn.append(line_chart("norm of the gradient before clipping", norms))
    drawn.append(line_chart("samples/s", _lines(steps, ["samples_per_s"])))
    peaks = [(line["step"], line[GPU_PEAK] / 2**30) for line in steps if GPU_PEAK in line]
    drawn.append(line_chart("GPU memory of rank 0, peak in GiB", {"tensors": peaks}))
    yield f"<div class=row>{''.join(drawn)}</div>"


def _points(history: Sequence[Point], names: Iterable[str]) -> dict[str, list[tuple[float, float]]]:
    return {
        name: [(point.step, point.metrics[name]) for point in history if name in point.metrics]
        for name in names
    }


def _lines(steps: Sequence[dict[str, float]], names: Iterable[str]) -> dict[str, list[tuple[float, float]]]:
    return {
        name.partition("/")[2] or name: [(line["step"], line[name]) for line in steps if name in line]
        for name in names
    }


def _sheet(folder: PhaseFolder, *, most: int) -> Iterator[str]:
    found = pictures(folder.path)
    if not found:
        yield "<p class=quiet>none drawn</p>"
        return
    select = folder.select
    values = {point.step: point.metrics.get(select.metric) for point in folder.history} if select else {}
    if select is not None and "/segmentation/" in select.metric:
        yield _class_legend()
    yield "<div class='row sheet'>"
    for shown in _spread(found, most=most):
        value = values.get(shown.step)
        caption = f"step {shown.step}" + (f", {select.metric} {value:.4f}" if select and value else "")
        data = base64.b64encode(small(shown, most=PICTURE_WIDTH)).decode()
        yield (
            f"<figure><figcaption>{escape(caption)}</figcaption>"
            f'<img alt="{escape(caption)}" src="data:image/jpeg;base64,{data}"></figure>'
        )
    yield "</div>"


def _class_legend() -> str:
    colours = dict(zip(CLASSES, CLASS_COLOURS, strict=True))
    names = "".join(
        f'<span><i style="background:rgb{colour}"></i>{name}</span>' for name, colour in colours.items()
    )
    return f'<div class="legend">{names}</div>'


def _spread(found: Sequence[Shown], *, most: int) -> list[Shown]:
    if len(found) <= most:
        return list(found)
    return [found[round(number * (len(found) - 1) / (most - 1))] for number in range(most)]


def _wall_time(run: Run) -> Iterator[str]:
    sheets = {folder.path.name: folder.sheet for folder in run.folders if folder.sheet is not None}
    if not sheets:
        yield "<p class=quiet>not accounted for; this run is from before time sheets were kept</p>"
        return
    times = {name: sheet.time for name, sheet in sheets.items()}
    times["run"] = account_of_run(sheets.values())
    rows = [
        [name, *(duration(seconds) for seconds in time.parts().values()), duration(time.whole)]
        for name, time in times.items()
    ]
    yield _bar(times["run"])
    yield table(["", *LABELS.values(), "whole"], rows, numbers=len(LABELS) + 1)
    yield f"<p>Goodput {100 * times['run'].goodput:.0f} %: wall time in steps, each counted once.</p>"


def _bar(time: WallTime) -> str:
    parts = [
        (label, time.parts()[name], colour)
        for (name, label), colour in zip(LABELS.items(), COLOURS, strict=False)
    ]
    whole = time.whole or 1.0
    blocks = "".join(
        f'<i style="width:{100 * seconds / whole:.3f}%;background:{colour}" title="{label}"></i>'
        for label, seconds, colour in parts
    )
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{label} {100 * seconds / whole:.0f} %</span>'
        for label, seconds, colour in parts
    )
    return f'<div class="bar">{blocks}</div><div class="legend">{legend}</div>'


def _plan(run: Run) -> Iterator[str]:
    yield f"<pre>{escape(plan_text(run))}</pre>"
    resolved = f"<pre>{escape(resolved_text(run))}</pre>"
    yield f"<details><summary>curriculum.yaml, resolved</summary>{resolved}</details>"


def _environment(folders: Sequence[PhaseFolder]) -> Iterator[str]:
    columns = {folder.phase: environment_rows(folder) for folder in folders}
    columns = {phase: rows for phase, rows in columns.items() if rows}
    if not columns:
        yield "<p class=quiet>not kept; this run is from before it was</p>"
        return
    names = dict.fromkeys(name for rows in columns.values() for name in rows)
    rows = [[name, *(found.get(name, "") for found in columns.values())] for name in names]
    yield table(["", *columns], rows, wraps=True)

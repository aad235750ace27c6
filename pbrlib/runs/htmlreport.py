"""Renders one run, or the runs of a ladder, as a self-contained HTML page without scripts."""

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
from pbrlib.runs.pictures import ValidationPicture, pictures, thumbnail
from pbrlib.runs.record import Run
from pbrlib.runs.resolvedplan import environment_rows, plan_text, resolved_text
from pbrlib.runs.tables import LABELS, goodput_text, phase_cells
from pbrlib.runs.walltime import WallTime, add_accounts
from pbrlib.train.record.journal import GPU_PEAK

MAX_PICTURES = 24
"""Maximum number of pictures per phase; of more pictures, an evenly spaced subset is shown."""
MAX_LADDER_PICTURES = 6
"""Maximum number of pictures per phase on a page of several runs."""
PICTURE_WIDTH = 720

_HEADINGS = ("phase", "state", "best", "step", "wall time", "gate", "written")


def page(run: Run, *, now: float) -> str:
    """Render the page of a run.

    It has curves, validation pictures, IoU by class, the evaluation with its confusion matrix if there is
    one, the wall time, the resolved plan and the environment.
    """
    return document(run.name, _head(run, now=now) + _sections(run, anchor="run", now=now))


def page_of_runs(runs: Sequence[Run], *, title: str, now: float) -> str:
    """Render one page of several runs: a table of all phases, then the sections of each run."""
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
        f"{_sections(run, anchor=f'run-{number}', now=now, max_pictures=MAX_LADDER_PICTURES)}</section>"
        for number, run in enumerate(runs, start=1)
    )
    return document(title, f"{head}<p>{links}</p>{table(_HEADINGS, rows, anchors=anchors)}{body}")


def _head(run: Run, *, now: float) -> str:
    about = f"{run.state(now=now)} as of {moment(now)} · {run.path}"
    return f"<h1>{escape(run.name)}</h1><p class=quiet>{escape(about)}</p>"


def _sections(run: Run, *, anchor: str, now: float, max_pictures: int = MAX_PICTURES) -> str:
    current = [folder for name in run.phases if (folder := run.current(name)) is not None]
    ids = {folder.phase: f"{anchor}-{run.phases.index(folder.phase) + 1}" for folder in current}
    images = partial(_images, max_pictures=max_pictures)
    sections = [
        ("Phases", _phases(run, ids, now=now)),
        ("Curves", _section_per_phase(current, _curves, ids=ids)),
        ("Metrics", [*class_figures(current), *evaluated(evaluation_of(run))]),
        ("Pictures: input, prediction, truth", _section_per_phase(current, images)),
        ("Wall time", _wall_time(run)),
        ("Plan", _plan(run)),
        ("Environment", _environment(current)),
    ]
    return "".join(f"<h2>{title}</h2>{''.join(parts)}" for title, parts in sections)


def _section_per_phase(
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
    drawn = [line_chart("training loss and its terms", _lines(steps, terms))]
    select = folder.select
    measured = list(dict.fromkeys(name for point in history for name in point.metrics))
    losses = [name for name in measured if name.endswith("/loss")]
    drawn.append(line_chart("validation loss by source", _points(history, losses)))
    if select is not None:
        best = folder.best
        sources = [name for name in measured if name.split("/")[2:] == select.metric.split("/")[2:]]
        mark = None if best is None else (best.step, best.metrics[select.metric])
        title = f"{select.metric} ({select.mode}), by source"
        drawn.append(line_chart(title, _points(history, sources), mark=mark))
    # Parameters without weight decay have the learning rate of their group, so they are left out.
    rates = [name for name in names if name.startswith("rate/") and not name.endswith("/no_decay")]
    drawn.append(line_chart("learning rates", _lines(steps, rates)))
    norms = {
        name.rpartition("/")[0] or "gradient": [(line["step"], line[name]) for line in steps if name in line]
        for name in names
        if name.rpartition("/")[2] == "gradient_norm"
    }
    drawn.append(line_chart("gradient norm before clipping", norms))
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


def _images(folder: PhaseFolder, *, max_pictures: int) -> Iterator[str]:
    found = pictures(folder.path)
    if not found:
        yield "<p class=quiet>There are no pictures.</p>"
        return
    select = folder.select
    values = {point.step: point.metrics.get(select.metric) for point in folder.history} if select else {}
    if select is not None and "/segmentation/" in select.metric:
        yield _class_legend()
    yield "<div class='row sheet'>"
    for shown in _evenly_spaced(found, num=max_pictures):
        value = values.get(shown.step)
        caption = f"step {shown.step}" + (f", {select.metric} {value:.4f}" if select and value else "")
        data = base64.b64encode(thumbnail(shown, max_width=PICTURE_WIDTH)).decode()
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


def _evenly_spaced(found: Sequence[ValidationPicture], *, num: int) -> list[ValidationPicture]:
    if len(found) <= num:
        return list(found)
    return [found[round(number * (len(found) - 1) / (num - 1))] for number in range(num)]


def _wall_time(run: Run) -> Iterator[str]:
    accounts = {folder.path.name: folder.account for folder in run.folders if folder.account is not None}
    if not accounts:
        yield "<p class=quiet>There is no time sheet: an older version trained this run.</p>"
        return
    times = {name: account.time for name, account in accounts.items()}
    times["run"] = add_accounts(accounts.values())
    rows = [
        [name, *(duration(seconds) for seconds in time.parts().values()), duration(time.total)]
        for name, time in times.items()
    ]
    yield _bar(times["run"])
    yield table(["", *LABELS.values(), "total"], rows, numbers=len(LABELS) + 1)
    yield f"<p>{goodput_text(times['run'])}</p>"


def _bar(time: WallTime) -> str:
    parts = [
        (label, time.parts()[name], colour)
        for (name, label), colour in zip(LABELS.items(), COLOURS, strict=False)
    ]
    total = time.total or 1.0
    blocks = "".join(
        f'<i style="width:{100 * seconds / total:.3f}%;background:{colour}" title="{label}"></i>'
        for label, seconds, colour in parts
    )
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{label} {100 * seconds / total:.0f} %</span>'
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
        yield "<p class=quiet>There is no environment.json: an older version trained this run.</p>"
        return
    names = dict.fromkeys(name for rows in columns.values() for name in rows)
    rows = [[name, *(found.get(name, "") for found in columns.values())] for name in names]
    yield table(["", *columns], rows, wraps=True)

"""A run as one HTML page that needs nothing beside it: no script, no font, no address."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from pbrlib.curriculum.describe.phrases import duration
from pbrlib.maps import CLASS_COLOURS, CLASSES
from pbrlib.runs.chart import COLOURS, line_chart
from pbrlib.runs.evaluation import evaluation_of
from pbrlib.runs.measurements import class_figures, evaluated
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.runs.pictures import Shown, pictures, small
from pbrlib.runs.record import Run
from pbrlib.runs.resolvedplan import environment_rows, plan_text, resolved_text
from pbrlib.runs.tables import LABELS, phase_cells
from pbrlib.runs.walltime import WallTime, account_of_run

MOST_PICTURES = 24
"""Of a phase; of more validations evenly spread ones are shown, the first and the last among them."""
PICTURE_WIDTH = 720

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#1c1c1c;background:#fff;max-width:1220px;margin:24px auto;
padding:0 20px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px;border-bottom:1px solid #ddd}
h3{font-size:15px;margin:18px 0 6px}p{margin:4px 0}.quiet{color:#666}
table{border-collapse:collapse;margin:6px 0}td,th{padding:3px 10px 3px 0;text-align:left;vertical-align:top}
th{font-weight:600;border-bottom:1px solid #bbb}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.row{display:flex;flex-wrap:wrap;gap:16px}figure{margin:0;flex:0 1 560px;min-width:300px}
figcaption{font-weight:600;margin-bottom:2px}svg{width:100%;height:auto;display:block}
svg text{font-size:11px;fill:#555}.grid{stroke:#e4e4e4}.mark{fill:none;stroke:#1c1c1c;stroke-width:1.5}
.legend span{margin-right:14px;font-size:12px;white-space:nowrap}
.legend i{display:inline-block;width:10px;height:10px;margin-right:4px}
.bar{display:flex;height:16px;max-width:900px;margin:4px 0}.bar i{display:block;height:100%}
.sheet img{width:100%;display:block}.sheet figure{flex:1 1 480px;max-width:580px}
pre{font:12px/1.35 ui-monospace,monospace;overflow-x:auto;background:#f6f6f6;padding:10px}
.matrix td,.matrix th{padding:4px 8px;text-align:right;border:1px solid #fff}
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""A browser that is told this fetches nothing, whatever a name or a message in a run may hold."""


def page(run: Run, *, now: float) -> str:
    """The whole page.

    Curves, the pictures of every validation, per-class IoU, the confusion matrix where an evaluation lies
    beside the run, wall time, the resolved plan and the environment.
    """
    current = [folder for name in run.phases if (folder := run.current(name)) is not None]
    sections = [
        ("Phases", _phases(run, now=now)),
        ("Curves", _each(current, _curves)),
        ("Figures", [*class_figures(current), *evaluated(evaluation_of(run))]),
        ("Pictures: input, prediction, truth", _each(current, _sheet)),
        ("Wall time", _wall_time(run)),
        ("Plan", _plan(run)),
        ("Environment", _environment(current)),
    ]
    written = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    head = (
        f"<h1>{escape(run.name)}</h1><p class=quiet>{escape(run.state(now=now))} · {escape(str(run.path))} · "
        f"written {written}</p>"
    )
    body = "".join(f"<h2>{title}</h2>{''.join(parts)}" for title, parts in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(run.name)}</title><style>{_STYLE}</style></head><body>{head}{body}</body></html>\n"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> str:
    """A table of plain text; the last ``numbers`` columns are set to the right."""
    first = len(headings) - numbers

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if number >= first else ''}>{escape(cell)}</{tag}>"
            for number, cell in enumerate(row)
        )

    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{cells(headings, 'th')}</tr>{lines}</table>"


def _each(folders: Sequence[PhaseFolder], section: Callable[[PhaseFolder], Iterator[str]]) -> Iterator[str]:
    for folder in folders:
        yield f"<h3>{escape(folder.phase)} <span class=quiet>{escape(folder.path.name)}</span></h3>"
        yield from section(folder)


def _phases(run: Run, *, now: float) -> Iterator[str]:
    headings = ("phase", "state", "best", "step", "wall time", "gate", "written")
    yield table(headings, [phase_cells(run, name, now=now) for name in run.phases])
    for name in run.phases:
        if reason := run.reason(name):
            yield f"<p>{escape(f'{name}: {reason}')}</p>"


def _curves(folder: PhaseFolder) -> Iterator[str]:
    steps, history = folder.steps, folder.history
    terms = [name for name in (steps[-1] if steps else {}) if name.startswith("train/")]
    drawn = [line_chart("loss and its terms", _lines(steps, terms))]
    select = folder.select
    measured = list(dict.fromkeys(name for point in history for name in point.metrics))
    if select is not None:
        best = folder.best
        sources = [name for name in measured if name.split("/")[2:] == select.metric.split("/")[2:]]
        lines = {
            name: [(point.step, point.metrics[name]) for point in history if name in point.metrics]
            for name in sources
        }
        mark = None if best is None else (best.step, best.metrics[select.metric])
        drawn.append(line_chart(f"{select.metric}, {select.mode}; by source", lines, mark=mark))
    # A group's part without decay learns at the rate of the group.
    rates = [
        name
        for name in (steps[-1] if steps else {})
        if name.startswith("rate/") and not name.endswith("/no_decay")
    ]
    drawn.append(line_chart("learning rates", _lines(steps, rates)))
    drawn.append(line_chart("samples/s", _lines(steps, ["samples_per_s"])))
    yield f"<div class=row>{''.join(drawn)}</div>"


def _lines(steps: Sequence[dict[str, float]], names: Iterable[str]) -> dict[str, list[tuple[float, float]]]:
    return {
        name.partition("/")[2] or name: [(line["step"], line[name]) for line in steps if name in line]
        for name in names
    }


def _sheet(folder: PhaseFolder) -> Iterator[str]:
    found = pictures(folder.path)
    if not found:
        yield "<p class=quiet>none drawn</p>"
        return
    select = folder.select
    values = {point.step: point.metrics.get(select.metric) for point in folder.history} if select else {}
    if select is not None and "/segmentation/" in select.metric:
        yield _class_legend()
    yield "<div class='row sheet'>"
    for shown in _spread(found):
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


def _spread(found: Sequence[Shown]) -> list[Shown]:
    if len(found) <= MOST_PICTURES:
        return list(found)
    last = MOST_PICTURES - 1
    return [found[round(number * (len(found) - 1) / last)] for number in range(MOST_PICTURES)]


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
    yield table(["", *columns], rows)

"""A sweep as one HTML page that needs no network: the ranked table, and Optuna's own pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from html import escape
from typing import Any

import optuna
from optuna.trial import TrialState

from pbrlib.sweep.ranking import about_front, cells, headings, ranked, short_addresses
from pbrlib.sweep.study import SweepStudy

PAGE = "report.html"

_BACKGROUND = "#c9b18f"
"""A sand colour of medium lightness: both ends of a scale of blues stand out from it."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 1200px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25em .8em; text-align: left; border-bottom: 1px solid #ddd }
.wide { overflow-x: auto }
tr.stopped, tr.running { color: #777 } tr.failed { color: #a22 }
"""


def page(study: SweepStudy, *, title: str) -> str:
    """The whole page, scripts included."""
    counts = {
        state: sum(one.state == state for one in study.configurations())
        for state in ("finished", "stopped", "failed", "running")
    }
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    interval = (
        "" if study.spec.repeats == 1 else " In brackets: the 95 % interval of the mean over the seeds."
    )
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<p>{study.spec.size} configurations wanted: {summary}.{interval} {about_front(study)}</p>",
            _table(study),
            *_pictures(study),
            "</body></html>",
        ]
    )


def _table(study: SweepStudy) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in ["place", *headings(study)])
    rows = [
        f'<tr class="{one.state}"><td>{place if one.state == "finished" else ""}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells(study, one))
        + "</tr>"
        for place, one in enumerate(ranked(study), start=1)
    ]
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _pictures(study: SweepStudy) -> Iterator[str]:
    """History, curves, importance and parallel coordinates; plotly's script stands with the first."""
    from plotly.io import to_html

    if sum(one.state == "finished" for one in study.configurations()) < 2:
        yield "<p>Pictures need two finished trials.</p>"
        return
    yield "<p>In parallel coordinates each line is a finished trial; the darker, the better.</p>"
    script = True
    for number, objective in enumerate(study.spec.objectives):
        for heading, figure in _figures(study, number):
            yield f"<h2>{heading}: {escape(objective.metric)}</h2>"
            # The heading above is the title; a legend at the side takes half of a narrow screen.
            figure.update_layout(title=None, margin={"t": 40}, legend={"orientation": "h", "y": -0.4})
            settings = {"displaylogo": False, "responsive": True}
            drawn = to_html(figure, full_html=False, include_plotlyjs=script, config=settings)
            yield f'<div class="wide">{drawn}</div>'
            script = False


def _figures(study: SweepStudy, number: int) -> Iterator[tuple[str, Any]]:
    metric, one, draw = study.spec.objectives[number].metric, _alone(study, number), optuna.visualization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield "History", _history(study, number)
        if any(trial.intermediate_values for trial in study.study.get_trials(deepcopy=False)):
            curves = draw.plot_intermediate_values(study.study)
            curves.update_layout(xaxis_title="validation", yaxis_title=metric)
            yield "Curves by validation", curves
        yield "Importance", draw.plot_param_importances(one, target_name=metric)
        parallel = draw.plot_parallel_coordinate(one, target_name=metric)
        # Optuna's scale of blues begins near white, where the worst trial could not be seen on white.
        parallel.update_layout(plot_bgcolor=_BACKGROUND)
        parallel.update_traces(opacity=1.0, selector={"mode": "lines"})
        parallel.update_traces(marker_colorbar_title=None, selector={"mode": "markers"})
        yield "Parallel coordinates", parallel


def _history(study: SweepStudy, number: int) -> Any:
    """One objective by the number of the trial, with a line at the baseline."""
    metric = study.spec.objectives[number].metric
    target = None if len(study.spec.objectives) == 1 else lambda trial: float(trial.values[number])
    figure = optuna.visualization.plot_optimization_history(study.study, target=target, target_name=metric)
    for one in study.configurations():
        if one.is_baseline and one.state == "finished":
            level = sum(one.values(number)) / len(one.values(number))
            figure.add_hline(y=level, line_dash="dot", annotation_text=f"trial {one.label}")
    return figure


def _alone(study: SweepStudy, number: int) -> optuna.Study:
    """One objective as a study of its own, whose direction the pictures then know; addresses are short.

    Whole ones do not fit beside an axis: all would read ``phases.S1.loss.fo...``.
    """
    alone = optuna.create_study(direction=study.study.directions[number])
    names = short_addresses(list(study.spec.space))
    for trial in study.study.get_trials(states=[TrialState.COMPLETE]):
        alone.add_trial(
            optuna.trial.create_trial(
                params={names[address]: value for address, value in trial.params.items()},
                distributions={names[address]: given for address, given in trial.distributions.items()},
                value=trial.values[number],
            )
        )
    return alone

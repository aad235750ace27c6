"""Renders a sweep as a self-contained HTML page: the ranked table, and the plots of Optuna."""

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
"""A sand colour of medium lightness, on which light and dark blue lines are visible."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 1200px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25em .8em; text-align: left; border-bottom: 1px solid #ddd }
.wide { overflow-x: auto }
tr.stopped, tr.running { color: #777 } tr.failed { color: #a22 }
"""


def page(study: SweepStudy, *, title: str) -> str:
    """Render the page, including its scripts."""
    counts = {
        state: sum(configuration.state == state for configuration in study.configurations())
        for state in ("finished", "stopped", "failed", "running")
    }
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    interval = (
        "" if study.spec.repeats == 1 else " The 95 % interval of the mean over the seeds is in brackets."
    )
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<p>{study.spec.size} configurations planned: {summary}.{interval} {about_front(study)}</p>",
            _table(study),
            *_pictures(study),
            "</body></html>",
        ]
    )


def _table(study: SweepStudy) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in ["place", *headings(study)])
    rows = [
        f'<tr class="{configuration.state}"><td>{place if configuration.state == "finished" else ""}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells(study, configuration))
        + "</tr>"
        for place, configuration in enumerate(ranked(study), start=1)
    ]
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _pictures(study: SweepStudy) -> Iterator[str]:
    """Yield the plots of each objective; the first plot includes the script of plotly."""
    from plotly.io import to_html

    if sum(configuration.state == "finished" for configuration in study.configurations()) < 2:
        yield "<p>Plots need at least two finished trials.</p>"
        return
    yield "<p>In the parallel coordinates, each line is a finished trial; darker lines are better.</p>"
    script = True
    for number, objective in enumerate(study.spec.objectives):
        for heading, figure in _figures(study, number):
            yield f"<h2>{heading}: {escape(objective.metric)}</h2>"
            # The heading is the title; a legend at the side would take half of a narrow screen.
            figure.update_layout(title=None, margin={"t": 40}, legend={"orientation": "h", "y": -0.4})
            settings = {"displaylogo": False, "responsive": True}
            drawn = to_html(figure, full_html=False, include_plotlyjs=script, config=settings)
            yield f'<div class="wide">{drawn}</div>'
            script = False


def _figures(study: SweepStudy, number: int) -> Iterator[tuple[str, Any]]:
    metric, single = study.spec.objectives[number].metric, _single_objective_study(study, number)
    draw = optuna.visualization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield "History", _history(study, number)
        if any(trial.intermediate_values for trial in study.study.get_trials(deepcopy=False)):
            curves = draw.plot_intermediate_values(study.study)
            curves.update_layout(xaxis_title="validation", yaxis_title=metric)
            yield "Curves by validation", curves
        yield "Importance", draw.plot_param_importances(single, target_name=metric)
        parallel = draw.plot_parallel_coordinate(single, target_name=metric)
        # Optuna's blue colour scale starts near white, so the worst trials would be invisible on white.
        parallel.update_layout(plot_bgcolor=_BACKGROUND)
        parallel.update_traces(opacity=1.0, selector={"mode": "lines"})
        parallel.update_traces(marker_colorbar_title=None, selector={"mode": "markers"})
        yield "Parallel coordinates", parallel


def _history(study: SweepStudy, number: int) -> Any:
    """Plot one objective by the number of the trial, with a line at the baseline."""
    metric = study.spec.objectives[number].metric
    target = None if len(study.spec.objectives) == 1 else lambda trial: float(trial.values[number])
    figure = optuna.visualization.plot_optimization_history(study.study, target=target, target_name=metric)
    for configuration in study.configurations():
        if configuration.is_baseline and configuration.state == "finished":
            level = sum(configuration.values(number)) / len(configuration.values(number))
            figure.add_hline(y=level, line_dash="dot", annotation_text=f"trial {configuration.label}")
    return figure


def _single_objective_study(study: SweepStudy, number: int) -> optuna.Study:
    """Return a study with one objective only, so that the plots use its direction.

    The addresses are shortened, since full addresses do not fit beside an axis.
    """
    single = optuna.create_study(direction=study.study.directions[number])
    names = short_addresses(list(study.spec.space))
    for trial in study.study.get_trials(states=[TrialState.COMPLETE]):
        single.add_trial(
            optuna.trial.create_trial(
                params={names[address]: value for address, value in trial.params.items()},
                distributions={names[address]: given for address, given in trial.distributions.items()},
                value=trial.values[number],
            )
        )
    return single

"""Ranks the configurations of a sweep, and formats them for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.mistakes import suggestion
from pbrlib.curriculum.spec import plain
from pbrlib.errors import ConfigError
from pbrlib.metrics.student import student_interval
from pbrlib.sweep.search import Params
from pbrlib.sweep.searchfile import Search
from pbrlib.sweep.study import Configuration, SweepStudy

if TYPE_CHECKING:
    from rich.table import Table


def ranked(study: SweepStudy) -> list[Configuration]:
    """Return all configurations: the finished ones, the best first, then stopped, running and failed ones.

    With several objectives, the Pareto front comes first.
    """
    finished = [
        configuration for configuration in study.configurations() if configuration.state == "finished"
    ]
    order = ("stopped", "running", "failed")
    rest = [
        configuration
        for state in order
        for configuration in study.configurations()
        if configuration.state == state
    ]
    first = sorted(finished, key=lambda configuration: score(study, configuration), reverse=True)
    front = {configuration.number for configuration in front_of(study)}
    return [*sorted(first, key=lambda configuration: configuration.number not in front), *rest]


def front_of(study: SweepStudy) -> list[Configuration]:
    """Return the best finished configuration; with several objectives, the Pareto front."""
    finished = [
        configuration for configuration in study.configurations() if configuration.state == "finished"
    ]
    if len(study.spec.objectives) == 1:
        return sorted(finished, key=lambda configuration: score(study, configuration), reverse=True)[:1]
    objectives = range(len(study.spec.objectives))
    scores = np.array([[score(study, one, place) for place in objectives] for one in finished])
    return [one for one, own in zip(finished, scores, strict=True) if not _is_beaten(own, scores)]


def about_front(study: SweepStudy) -> str:
    """Return a sentence about the places on the Pareto front; empty with one objective."""
    if len(study.spec.objectives) == 1 or not (front := front_of(study)):
        return ""
    places = "Place 1 is" if len(front) == 1 else f"Places 1 to {len(front)} are"
    return (
        f"{places} on the Pareto front: no other trial is better in one objective and as good in the others."
    )


def score(study: SweepStudy, configuration: Configuration, objective: int = 0) -> float:
    """Return the mean of one objective over the repeats, with its sign changed if it is minimised."""
    mean = student_interval(configuration.values(objective)).mean
    return mean if study.spec.objectives[objective].mode == "max" else -mean


def chosen(study: SweepStudy, *, number: int | None) -> Configuration:
    """Return a finished configuration by its number, or the best; raises ConfigError if there is none."""
    finished = [configuration for configuration in ranked(study) if configuration.state == "finished"]
    if not finished:
        raise ConfigError(
            f"{study.folder}: got no finished trial; expected at least one. Run pbr tune again to resume."
        )
    if number is None:
        return finished[0]
    for configuration in finished:
        if configuration.number == number:
            return configuration
    known = [str(configuration.number) for configuration in finished]
    raise ConfigError(f"--trial: got {number}; expected a finished trial. {suggestion(number, known)}")


def figure(study: SweepStudy, configuration: Configuration, objective: int) -> str:
    """Format the mean of an objective, with its 95 % interval if there are several repeats."""
    values = configuration.values(objective)
    if not values:
        return ""
    interval = student_interval(values)
    if len(values) == 1:
        return f"{interval.mean:.4g}"
    return f"{interval.mean:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def origin(study: SweepStudy, configuration: Configuration, *, sweep: Path) -> str:
    """Describe the origin of the values in one line."""
    figures = ", ".join(
        f"{each.metric} {figure(study, configuration, place)}"
        for place, each in enumerate(study.spec.objectives)
    )
    seeds = f" over {len(configuration.outcomes)} seeds" if len(configuration.outcomes) > 1 else ""
    among = f" with {' '.join(study.overrides)}" if study.overrides else ""
    return f"{study.study.study_name}, trial {configuration.label} of {sweep.name}{among}: {figures}{seeds}"


def shortened(study: SweepStudy, file: Path) -> str:
    """Return a warning if a sweep trained fewer epochs than a curriculum, else an empty string."""
    phase = load_curriculum(file).phases.get(study.spec.phase)
    if phase is None or study.epochs is None or study.epochs >= phase.epochs:
        return ""
    return (
        f"the sweep trained {study.spec.phase} for {study.epochs} epochs, but {file} trains it for "
        f"{phase.epochs}, and the ranking may change with more epochs. Repeat the best trials as a grid at "
        "full length."
    )


def differing(params: Params, search: Search) -> dict[str, Any]:
    """Return the values that differ from those of the curriculum."""
    declared = plain(search.curriculum)
    return {address: value for address, value in params.items() if _at(declared, address) != value}


def title_of(search: Search) -> str:
    """Return the title of a sweep, such as ``s1_focal_gamma: segformer/S1``."""
    return f"{search.name}: {search.curriculum.name}/{search.spec.phase}"


def short_addresses(addresses: Sequence[str]) -> dict[str, str]:
    """Return the addresses without their common first parts, for headings."""
    split = [address.split(".") for address in addresses]
    common = 0
    while all(len(parts) > common + 1 and parts[common] == split[0][common] for parts in split):
        common += 1
    return {address: ".".join(parts[common:]) for address, parts in zip(addresses, split, strict=True)}


def cells(study: SweepStudy, configuration: Configuration) -> list[str]:
    """Return the cells of a table row: trial, objectives, values, state."""
    values = [_text(configuration.params.get(address, "")) for address in study.spec.space]
    state = f"failed: {configuration.reason}" if configuration.state == "failed" else configuration.state
    figures = [figure(study, configuration, place) for place in range(len(study.spec.objectives))]
    return [configuration.label, *figures, *values, state]


def headings(study: SweepStudy) -> list[str]:
    """Return the headings for :func:`cells`."""
    names = short_addresses(list(study.spec.space))
    return ["trial", *(each.metric for each in study.spec.objectives), *names.values(), "state"]


def table(study: SweepStudy, *, title: str) -> Table:
    """Build the ranked table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(
        title=title, title_justify="left", caption=about_front(study) or None, caption_justify="left"
    )
    for heading in ["place", *headings(study)]:
        shown.add_column(heading, overflow="fold")
    for place, configuration in enumerate(ranked(study), start=1):
        mark = str(place) if configuration.state == "finished" else ""
        shown.add_row(mark, *(escape(cell) for cell in cells(study, configuration)))
    return shown


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_beaten(own: np.ndarray, scores: np.ndarray) -> bool:
    """Whether a row of ``scores`` is at least as good as ``own`` in every objective and better in one."""
    return bool(((scores >= own).all(axis=1) & (scores > own).any(axis=1)).any())


def _at(declared: Any, address: str) -> Any:
    for part in address.split("."):
        if not isinstance(declared, Mapping) or part not in declared:
            return None
        declared = declared[part]
    return declared

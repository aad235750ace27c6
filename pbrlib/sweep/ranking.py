"""The order of a sweep's configurations, and how a table shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Every configuration, the best first: finished ones by their means, then stopped, running, failed ones.

    With several objectives those that no other beats in all of them come first.
    """
    finished = [one for one in study.configurations() if one.state == "finished"]
    order = ("stopped", "running", "failed")
    rest = [one for state in order for one in study.configurations() if one.state == state]
    first = sorted(finished, key=lambda one: score(study, one), reverse=True)
    front = {one.number for one in front_of(study)}
    return [*sorted(first, key=lambda one: one.number not in front), *rest]


def front_of(study: SweepStudy) -> list[Configuration]:
    """The finished configurations that none beats: the best, or of several objectives a Pareto front."""
    finished = [one for one in study.configurations() if one.state == "finished"]
    if len(study.spec.objectives) == 1:
        return sorted(finished, key=lambda one: score(study, one), reverse=True)[:1]
    return [one for one in finished if not any(_beats(study, other, one) for other in finished)]


def about_front(study: SweepStudy) -> str:
    """Which places are the front, in a sentence; empty with one objective."""
    if len(study.spec.objectives) == 1 or not (front := front_of(study)):
        return ""
    places = "Place 1 is" if len(front) == 1 else f"Places 1 to {len(front)} are"
    return f"{places} the front: nothing is better in one objective and no worse in the others."


def score(study: SweepStudy, one: Configuration, objective: int = 0) -> float:
    """The mean of one objective over the repeats; larger is better."""
    mean = student_interval(one.values(objective)).mean
    return mean if study.spec.objectives[objective].mode == "max" else -mean


def chosen(study: SweepStudy, *, number: int | None) -> Configuration:
    """A finished configuration by its number, or the best; raises ConfigError where there is none."""
    finished = [one for one in ranked(study) if one.state == "finished"]
    if not finished:
        raise ConfigError(f"{study.folder}: no trial is finished. Run pbr tune again; it goes on.")
    if number is None:
        return finished[0]
    for one in finished:
        if one.number == number:
            return one
    known = [str(one.number) for one in finished]
    raise ConfigError(f"--trial {number}: no finished trial has this number. {suggestion(number, known)}")


def figure(study: SweepStudy, one: Configuration, objective: int) -> str:
    """``0.512 (0.49 to 0.53)``: the mean, and its 95 % interval where there are several repeats."""
    values = one.values(objective)
    if not values:
        return ""
    interval = student_interval(values)
    if len(values) == 1:
        return f"{interval.mean:.4g}"
    return f"{interval.mean:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def origin(study: SweepStudy, one: Configuration, *, sweep: Path) -> str:
    """Describe the origin of the values in one line."""
    figures = ", ".join(
        f"{each.metric} {figure(study, one, place)}" for place, each in enumerate(study.spec.objectives)
    )
    seeds = f" over {len(one.outcomes)} seeds" if len(one.outcomes) > 1 else ""
    among = f" with {' '.join(study.overrides)}" if study.overrides else ""
    return f"{study.study.study_name}, trial {one.label} of {sweep.name}{among}: {figures}{seeds}"


def shortened(study: SweepStudy, file: Path) -> str:
    """Return a warning where a sweep trained fewer epochs than a curriculum, else nothing."""
    phase = load_curriculum(file).phases.get(study.spec.phase)
    if phase is None or study.epochs is None or study.epochs >= phase.epochs:
        return ""
    return (
        f"the sweep trained {study.spec.phase} for {study.epochs} epochs, and {file} trains it for "
        f"{phase.epochs}: what is best after few epochs need not be best after many. Repeat the best few "
        "trials as a grid at full length."
    )


def differing(params: Params, search: Search) -> dict[str, Any]:
    """Return the values that differ from the curriculum's."""
    declared = plain(search.curriculum)
    return {address: value for address, value in params.items() if _at(declared, address) != value}


def title_of(search: Search) -> str:
    """``s1_focal_gamma: segformer/S1``."""
    return f"{search.name}: {search.curriculum.name}/{search.spec.phase}"


def short_addresses(addresses: Sequence[str]) -> dict[str, str]:
    """Addresses without the parts that all of them begin with, for headings."""
    split = [address.split(".") for address in addresses]
    common = 0
    while all(len(parts) > common + 1 and parts[common] == split[0][common] for parts in split):
        common += 1
    return {address: ".".join(parts[common:]) for address, parts in zip(addresses, split, strict=True)}


def cells(study: SweepStudy, one: Configuration) -> list[str]:
    """A row of the table behind its place: trial, objectives, values, state."""
    values = [_text(one.params.get(address, "")) for address in study.spec.space]
    state = f"failed: {one.reason}" if one.state == "failed" else one.state
    figures = [figure(study, one, place) for place in range(len(study.spec.objectives))]
    return [one.label, *figures, *values, state]


def headings(study: SweepStudy) -> list[str]:
    """Of :func:`cells`."""
    names = short_addresses(list(study.spec.space))
    return ["trial", *(each.metric for each in study.spec.objectives), *names.values(), "state"]


def table(study: SweepStudy, *, title: str) -> Table:
    """The ranked table for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(
        title=title, title_justify="left", caption=about_front(study) or None, caption_justify="left"
    )
    for heading in ["place", *headings(study)]:
        shown.add_column(heading, overflow="fold")
    for place, one in enumerate(ranked(study), start=1):
        mark = str(place) if one.state == "finished" else ""
        shown.add_row(mark, *(escape(cell) for cell in cells(study, one)))
    return shown


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _beats(study: SweepStudy, first: Configuration, second: Configuration) -> bool:
    """Return whether a configuration is at least as good in every objective and better in one."""
    pairs = [
        (score(study, first, place), score(study, second, place))
        for place in range(len(study.spec.objectives))
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _at(declared: Any, address: str) -> Any:
    for part in address.split("."):
        if not isinstance(declared, Mapping) or part not in declared:
            return None
        declared = declared[part]
    return declared

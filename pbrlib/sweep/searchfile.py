"""Search files to sweeps that can run; everything that is wrong with one is listed at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbrlib.curriculum.check.metricnames import metric_names
from pbrlib.curriculum.config.load import load_curriculum, load_spec
from pbrlib.curriculum.mistakes import Mistake, raise_mistakes, suggestion
from pbrlib.curriculum.sources import rename_in_metric, rename_sources, require_named
from pbrlib.curriculum.spec import Curriculum, plain
from pbrlib.errors import ConfigError
from pbrlib.sweep.search import GridSpec, Params, SearchSpec, Value, overrides_of
from pbrlib.train.runtimespec import RuntimeSpec

if TYPE_CHECKING:
    from pbrlib.data.shards.index import IndexRow

_NOT_SEARCHED = {
    "name": "it names the run, and no network depends on it",
    "seed": "the best seed is luck. Leave it out, and write repeats: 3 to see how much a seed moves",
    "task.kind": "the objective would measure another thing in each trial",
    "task.merge": "it changes which classes the objective counts, so trials could not be compared",
}
"""Addresses that no sweep may vary, and why."""

_NOT_OF_A_PHASE = {
    "select": "it changes which checkpoint is measured, so trials could not be compared",
    "gate": "a gate judges a phase and changes nothing of it",
}


@dataclass(frozen=True)
class Search:
    """A search file with the curriculum that it varies.

    ``overrides`` change the curriculum of every trial, beside what is searched; its sources are then
    ``renamed``.
    """

    name: str
    file: Path
    spec: SearchSpec
    curriculum_file: Path
    overrides: tuple[str, ...]
    curriculum: Curriculum
    renamed: Mapping[str, str] = field(default_factory=dict)

    def trial(self, params: Params, *, repeat: int = 0) -> Curriculum:
        """The curriculum of one trial; the seed is the curriculum's own plus the number of the repeat."""
        seed = f"seed={self.curriculum.seed + repeat}"
        overrides = [*self.overrides, *overrides_of(params), seed]
        return rename_sources(load_curriculum(self.curriculum_file, overrides=overrides), self.renamed)


def load_search(
    file: Path, *, overrides: Sequence[str] = (), renamed: Mapping[str, str] | None = None
) -> Search:
    """Reads a search file and the curriculum it names.

    Args:
        file: The search file.
        overrides: Of the curriculum, as ``--set`` takes them.
        renamed: Sources of the curriculum, and those of the data that feed them.

    Raises:
        ConfigError: Every mistake of either.
    """
    spec = load_spec(file, SearchSpec)
    curriculum_file = file.parent / spec.curriculum
    if not curriculum_file.is_file():
        raise_mistakes(
            str(file), [Mistake("curriculum", f"there is no file {curriculum_file}. Name one from here.")]
        )
    curriculum = load_curriculum(curriculum_file, overrides=overrides)
    if renamed:
        require_named([curriculum], renamed)
        curriculum, spec = rename_sources(curriculum, renamed), _renamed(spec, renamed)
    search = Search(file.stem, file, spec, curriculum_file, tuple(overrides), curriculum, renamed or {})
    raise_mistakes(str(file), list(_mistakes(search)))
    return search


def check_search(search: Search, *, runtime: RuntimeSpec, rows: Sequence[IndexRow]) -> None:
    """Refuses a sweep in which some configuration could not run on these shards and workers."""
    from pbrlib.curriculum.check.curriculum import check

    for params in search.spec.corners():
        place = f"{search.curriculum_file}, as {search.file} varies it ({', '.join(overrides_of(params))})"
        check(search.trial(params), place=place, runtime=runtime, rows=rows, running=[search.spec.phase])


def present_values(search: Search) -> Params | None:
    """Return what the curriculum has at the addresses; None where its space does not hold all of it."""
    declared, found = plain(search.curriculum), dict[str, Value]()
    for address, distribution in search.spec.space.items():
        value: Any = declared
        for part in address.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):  # a bare number is short for a weight
            value = value.get("weight")
        if not distribution.holds(value):
            return None
        found[address] = value
    return found


def _renamed(spec: SearchSpec, renamed: Mapping[str, str]) -> SearchSpec:
    """The search with the sources of its objectives renamed; its space has the addresses of the file."""
    objectives = (
        one.model_copy(update={"metric": rename_in_metric(one.metric, renamed)}) for one in spec.objectives
    )
    return spec.model_copy(update={"objectives": tuple(objectives)})


def _mistakes(search: Search) -> Iterator[Mistake]:
    spec, curriculum = search.spec, search.curriculum
    if spec.phase not in curriculum.phases:
        yield Mistake(
            "phase",
            f"{curriculum.name} has no phase {spec.phase!r}. {suggestion(spec.phase, curriculum.phases)}",
        )
        return
    yield from _settings(spec)
    for number, objective in enumerate(spec.objectives):
        yield from _objective(f"objectives.{number}.metric", objective.metric, curriculum)
    named = [objective.metric for objective in spec.objectives]
    if len(set(named)) < len(named):
        yield Mistake("objectives", "a metric stands twice. Keep one.")
    refused = [mistake for address in spec.space for mistake in _address(address, spec)]
    yield from refused
    if not refused:
        yield from _values(search)


def _settings(spec: SearchSpec) -> Iterator[Mistake]:
    grids = [address for address, one in spec.space.items() if isinstance(one, GridSpec)]
    if spec.sampler.kind == "grid":
        for address in (address for address in spec.space if address not in grids):
            kind = spec.space[address].kind
            yield Mistake(
                f"space.{address}", f"{kind} has no grid. List the values, {{kind: grid, values: [...]}}."
            )
        if (
            spec.num_trials is not None
            and spec.num_trials > (whole := len(spec.grid()))
            and len(grids) == len(spec.space)
        ):
            yield Mistake("num_trials", f"{spec.num_trials} of a grid of {whole}. Leave it out for all.")
    else:
        for address in grids:
            yield Mistake(
                f"space.{address}",
                f"a grid, and the sampler is {spec.sampler.kind}. "
                "Write kind: choice, or sampler: {kind: grid}.",
            )
        if spec.num_trials is None:
            yield Mistake("num_trials", f"missing. Say how many configurations {spec.sampler.kind} tries.")
    if spec.asha is not None and len(spec.objectives) > 1:
        yield Mistake(
            "asha", "stops trials by one objective, and there are several. Leave asha or all but one out."
        )
    if spec.asha is not None and spec.repeats > 1:
        yield Mistake(
            "asha",
            "would stop some seeds of a configuration and not others, and a mean needs all. Search with asha "
            "and repeats: 1, then repeat the best few as a grid.",
        )


def _objective(address: str, metric: str, curriculum: Curriculum) -> Iterator[Mistake]:
    parts = metric.split("/")
    source = parts[1] if len(parts) > 2 and parts[0] == "val" else "all"
    names = metric_names(curriculum.task, source=source)
    if metric in names:
        return
    if parts[0] != "val" or "loss" in parts:
        yield Mistake(
            address,
            f"{metric!r} is a figure of training: it changes with the weights searched themselves, so the "
            f"smallest weight would win. Choose a validation metric. {suggestion(metric, names)}",
        )
        return
    yield Mistake(
        address, f"{metric!r} is not measured for {curriculum.task.kind}. {suggestion(metric, names)}"
    )


def _address(address: str, spec: SearchSpec) -> Iterator[Mistake]:
    place, parts = f"space.{address}", address.split(".")
    for root, reason in _NOT_SEARCHED.items():
        if _below(address, root):
            yield Mistake(place, f"cannot be searched: {reason}.")
    if parts[0] == "phases" and len(parts) > 1 and parts[1] != spec.phase:
        yield Mistake(
            place,
            f"belongs to phase {parts[1]}, and the sweep trains {spec.phase} alone. Name "
            f"phases.{spec.phase}..., or make a sweep of {parts[1]}.",
        )
    elif parts[0] == "phases" and len(parts) > 2 and parts[2] in _NOT_OF_A_PHASE:
        yield Mistake(place, f"cannot be searched: {_NOT_OF_A_PHASE[parts[2]]}.")
    for other in spec.space:
        if other != address and _below(address, other):
            yield Mistake(place, f"lies within {other}, which is searched too. Keep one of them.")


def _below(address: str, root: str) -> bool:
    return address == root or address.startswith(f"{root}.")


def _values(search: Search) -> Iterator[Mistake]:
    """Every end and every listed value by itself, so that a mistake names its address."""
    for address, distribution in search.spec.space.items():
        for value in distribution.ends():
            try:
                search.trial({address: value})
            except ConfigError as error:
                first, *rest = str(error).splitlines()
                for line in rest or [first]:
                    yield Mistake(f"space.{address}", f"{value!r}: {line.strip()}")

"""Loads search files and checks them; all mistakes of a file are reported at once."""

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
    "name": "it only names the run",
    "seed": "the best seed is chance. Remove it, and set repeats: 3 to measure the effect of the seed",
    "task.kind": "each trial would have another objective",
    "task.merge": "it changes which classes the objective counts, so trials could not be compared",
}
"""Addresses that a sweep must not vary, with the reason."""

_NOT_OF_A_PHASE = {
    "select": "it changes which checkpoint is measured, so trials could not be compared",
    "gate": "a gate does not change the training of the phase",
}


@dataclass(frozen=True)
class Search:
    """A search file with the curriculum that it varies.

    ``overrides`` change the curriculum of every trial. Then its sources are ``renamed``.
    """

    name: str
    file: Path
    spec: SearchSpec
    curriculum_file: Path
    overrides: tuple[str, ...]
    curriculum: Curriculum
    renamed: Mapping[str, str] = field(default_factory=dict)

    def trial(self, params: Params, *, repeat: int = 0) -> Curriculum:
        """Return the curriculum of one trial; the number of the repeat is added to its seed."""
        seed = f"seed={self.curriculum.seed + repeat}"
        overrides = [*self.overrides, *overrides_of(params), seed]
        return rename_sources(load_curriculum(self.curriculum_file, overrides=overrides), self.renamed)


def load_search(
    file: Path, *, overrides: Sequence[str] = (), renamed: Mapping[str, str] | None = None
) -> Search:
    """Load a search file and its curriculum.

    Args:
        file: The search file.
        overrides: Overrides of the curriculum, as in ``--set``.
        renamed: Source in the curriculum -> source in the data.

    Raises:
        ConfigError: Lists every mistake of both files.
    """
    spec = load_spec(file, SearchSpec)
    curriculum_file = file.parent / spec.curriculum
    if not curriculum_file.is_file():
        raise_mistakes(
            str(file),
            [
                Mistake(
                    "curriculum",
                    f"got {curriculum_file}, which does not exist; expected a curriculum. Set its path "
                    "relative to the search file.",
                )
            ],
        )
    curriculum = load_curriculum(curriculum_file, overrides=overrides)
    if renamed:
        require_named([curriculum], renamed)
        curriculum, spec = rename_sources(curriculum, renamed), _renamed(spec, renamed)
    search = Search(file.stem, file, spec, curriculum_file, tuple(overrides), curriculum, renamed or {})
    raise_mistakes(str(file), list(_mistakes(search)))
    return search


def check_search(search: Search, *, runtime: RuntimeSpec, rows: Sequence[IndexRow]) -> None:
    """Raise ConfigError if a configuration of the sweep cannot run with this data and runtime."""
    from pbrlib.curriculum.check.curriculum import check

    for params in search.spec.corners():
        place = f"{search.curriculum_file}, as {search.file} varies it ({', '.join(overrides_of(params))})"
        check(search.trial(params), place=place, runtime=runtime, rows=rows, running=[search.spec.phase])


def present_values(search: Search) -> Params | None:
    """Return the curriculum's own values at the addresses; None if one is not in its distribution."""
    declared, found = plain(search.curriculum), dict[str, Value]()
    for address, distribution in search.spec.space.items():
        value: Any = declared
        for part in address.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):  # a number is short for a weight
            value = value.get("weight")
        if not distribution.contains(value):
            return None
        found[address] = value
    return found


def _renamed(spec: SearchSpec, renamed: Mapping[str, str]) -> SearchSpec:
    """Return the search with the sources in its objectives renamed; its space is unchanged."""
    objectives = (
        objective.model_copy(update={"metric": rename_in_metric(objective.metric, renamed)})
        for objective in spec.objectives
    )
    return spec.model_copy(update={"objectives": tuple(objectives)})


def _mistakes(search: Search) -> Iterator[Mistake]:
    spec, curriculum = search.spec, search.curriculum
    if spec.phase not in curriculum.phases:
        yield Mistake(
            "phase",
            f"got {spec.phase!r}; expected a phase of {curriculum.name}. "
            f"{suggestion(spec.phase, curriculum.phases)}",
        )
        return
    yield from _settings(spec)
    for number, objective in enumerate(spec.objectives):
        yield from _objective(f"objectives.{number}.metric", objective.metric, curriculum)
    named = [objective.metric for objective in spec.objectives]
    if len(set(named)) < len(named):
        yield Mistake("objectives", "got a metric twice; expected different metrics. Remove one.")
    refused = [mistake for address in spec.space for mistake in _address(address, spec)]
    yield from refused
    if not refused:
        yield from _values(search)


def _settings(spec: SearchSpec) -> Iterator[Mistake]:
    grids = [address for address, values in spec.space.items() if isinstance(values, GridSpec)]
    if spec.sampler.kind == "grid":
        for address in (address for address in spec.space if address not in grids):
            kind = spec.space[address].kind
            yield Mistake(
                f"space.{address}",
                f"got kind: {kind}; expected kind: grid for the grid sampler. "
                "Write {kind: grid, values: [...]}.",
            )
        if (
            spec.num_trials is not None
            and spec.num_trials > (num_points := len(spec.grid()))
            and len(grids) == len(spec.space)
        ):
            yield Mistake(
                "num_trials",
                f"got {spec.num_trials}; expected at most {num_points}, the size of the grid. "
                "Remove num_trials.",
            )
    else:
        for address in grids:
            yield Mistake(
                f"space.{address}",
                f"got kind: grid; expected another kind for the sampler {spec.sampler.kind}. "
                "Write kind: choice, or sampler: {kind: grid}.",
            )
        if spec.num_trials is None:
            yield Mistake(
                "num_trials",
                f"missing; expected a number for the sampler {spec.sampler.kind}. Set the number of "
                "configurations.",
            )
    if spec.asha is not None and len(spec.objectives) > 1:
        yield Mistake(
            "asha",
            f"got asha with {len(spec.objectives)} objectives; expected one objective. Remove asha, or all "
            "objectives but one.",
        )
    if spec.asha is not None and spec.repeats > 1:
        yield Mistake(
            "asha",
            f"got asha with repeats: {spec.repeats}; expected repeats: 1, as a mean needs all seeds. Search "
            "with repeats: 1, then repeat the best configurations as a grid.",
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
            f"got {metric!r}, which depends on the searched loss weights; expected a validation metric. "
            f"{suggestion(metric, names)}",
        )
        return
    yield Mistake(
        address,
        f"got {metric!r}; expected a metric of {curriculum.task.kind}. {suggestion(metric, names)}",
    )


def _address(address: str, spec: SearchSpec) -> Iterator[Mistake]:
    place, parts = f"space.{address}", address.split(".")
    for root, reason in _NOT_SEARCHED.items():
        if _below(address, root):
            yield Mistake(place, f"cannot be searched: {reason}.")
    if parts[0] == "phases" and len(parts) > 1 and parts[1] != spec.phase:
        yield Mistake(
            place,
            f"got an address of phase {parts[1]}; expected one of {spec.phase}, which the sweep trains. Use "
            f"phases.{spec.phase}..., or set phase: {parts[1]}.",
        )
    elif parts[0] == "phases" and len(parts) > 2 and parts[2] in _NOT_OF_A_PHASE:
        yield Mistake(place, f"cannot be searched: {_NOT_OF_A_PHASE[parts[2]]}.")
    for other in spec.space:
        if other != address and _below(address, other):
            yield Mistake(place, f"got an address within {other}, which is searched too. Remove one of them.")


def _below(address: str, root: str) -> bool:
    return address == root or address.startswith(f"{root}.")


def _values(search: Search) -> Iterator[Mistake]:
    """Yield the mistakes of every end and every listed value, checked one at a time."""
    for address, distribution in search.spec.space.items():
        for value in distribution.ends():
            try:
                search.trial({address: value})
            except ConfigError as error:
                first, *rest = str(error).splitlines()
                for line in rest or [first]:
                    yield Mistake(f"space.{address}", f"{value!r}: {line.strip()}")

"""Renames the sources of a curriculum to those of the data: ``--source skyrim=materials``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pbrlib.curriculum.ladder import Ladder
from pbrlib.curriculum.mistakes import Mistake, suggestion
from pbrlib.curriculum.spec import Curriculum, PhaseSpec
from pbrlib.errors import ConfigError

if TYPE_CHECKING:
    from pbrlib.data.shards.index import IndexRow


def rename_sources(curriculum: Curriculum, renamed: Mapping[str, str]) -> Curriculum:
    """Return the curriculum with the names in ``renamed`` replaced wherever a source is named.

    If two names become the same name, their shares in the draws are added, and the smaller ratio of a gate
    applies.
    """
    if not renamed:
        return curriculum
    phases = {name: _phase(phase, renamed) for name, phase in curriculum.phases.items()}
    return curriculum.model_copy(update={"phases": phases})


def rename_in_ladder(
    ladder: Ladder, renamed: Mapping[str, str], *, rows: Sequence[IndexRow] | None = None
) -> Ladder:
    """Return the ladder with the sources of every curriculum renamed.

    Raises ConfigError for a name that no curriculum uses, and for a source that ``rows`` do not have.
    """
    require_named(ladder.curricula, renamed)
    if rows is not None:
        require_sources(renamed, rows)
    return Ladder(
        tuple(
            tuple(replace(entry, curriculum=rename_sources(entry.curriculum, renamed)) for entry in wave)
            for wave in ladder.waves
        )
    )


def require_named(curricula: Sequence[Curriculum], renamed: Mapping[str, str]) -> None:
    """Raise ConfigError if ``renamed`` has a name that no curriculum uses."""
    known = dict.fromkeys(name for curriculum in curricula for name in _named(curriculum))
    for name in renamed:
        if name not in known:
            raise ConfigError(
                f"--source {name}={renamed[name]}: got {name!r}; expected NAME=SOURCE with a source that a "
                f"phase uses. {suggestion(name, sorted(known))}"
            )


def require_sources(renamed: Mapping[str, str], rows: Sequence[IndexRow]) -> None:
    """Raise ConfigError if ``renamed`` has a source without material in the data."""
    known = sorted({row.source for row in rows})
    for name, source in renamed.items():
        if source not in known:
            raise ConfigError(
                f"--source {name}={source}: got {source!r}; expected a source of the data. "
                f"{suggestion(source, known)}"
            )


def rename_in_metric(metric: str, renamed: Mapping[str, str]) -> str:
    """Return a metric such as ``val/skyrim/albedo/l1`` with its source renamed."""
    source = source_of_metric(metric)
    return metric if source not in renamed else metric.replace(f"/{source}/", f"/{renamed[source]}/", 1)


def source_of_metric(metric: str) -> str:
    """Return the source of a validation metric; ``all`` if it names none."""
    parts = metric.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "val" else "all"


def source_mistakes(curriculum: Curriculum, rows: Sequence[IndexRow]) -> Iterator[Mistake]:
    """Yield a mistake that lists the sources without material in the data, and options such as --source."""
    counts = Counter(row.source for row in rows)
    absent = {name: address for name, address in _named(curriculum).items() if name not in counts}
    if not absent:
        return
    listed = ", ".join(f"{source} ({count} materials)" for source, count in sorted(counts.items()))
    options = " ".join(f"--source {name}={_nearest(name, counts)}" for name in sorted(absent))
    yield Mistake(
        next(iter(absent.values())),
        f"got no material of {', '.join(sorted(absent))}; expected sources of the data: {listed or 'none'}. "
        f"Use other sources, as in {options}, or add --data.",
    )


def _named(curriculum: Curriculum) -> dict[str, str]:
    """Return the sources that a curriculum names, each with its first address."""
    found: dict[str, str] = {}
    for name, phase in curriculum.phases.items():
        address = f"phases.{name}"
        for source in phase.data:
            found.setdefault(source, f"{address}.data.{source}")
        if (measured := source_of_metric(phase.select.metric)) != "all":
            found.setdefault(measured, f"{address}.select.metric")
        for source in phase.gate.ratios if phase.gate is not None else ():
            found.setdefault(source, f"{address}.gate.ratios.{source}")
    return found


def _nearest(name: str, counts: Mapping[str, int]) -> str:
    """Return the source with the most similar name, else the one with the most materials."""
    near = get_close_matches(name, counts, n=1)
    return near[0] if near else max(sorted(counts), key=lambda source: counts[source], default="SOURCE")


def _phase(phase: PhaseSpec, renamed: Mapping[str, str]) -> PhaseSpec:
    shares: dict[str, float] = {}
    for name, share in phase.data.items():
        new = renamed.get(name, name)
        shares[new] = shares.get(new, 0.0) + share
    metric = rename_in_metric(phase.select.metric, renamed)
    changed: dict[str, object] = {
        "data": dict(sorted(shares.items())),
        "select": phase.select.model_copy(update={"metric": metric}),
    }
    if phase.mosaic is not None:
        sources = dict.fromkeys(renamed.get(name, name) for name in phase.mosaic.sources)
        changed["mosaic"] = phase.mosaic.model_copy(update={"sources": tuple(sources)})
    if phase.gate is not None:
        ratios: dict[str, float] = {}
        for name, ratio in phase.gate.ratios.items():
            new = renamed.get(name, name)
            ratios[new] = min(ratio, ratios.get(new, ratio))
        changed["gate"] = phase.gate.model_copy(update={"ratios": ratios})
    return phase.model_copy(update=changed)

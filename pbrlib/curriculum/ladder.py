"""Defines ladders: the curricula of a recipe, in waves that train one after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from pbrlib.curriculum.fingerprint import outside_donors
from pbrlib.curriculum.mistakes import Mistake, suggestion
from pbrlib.curriculum.references import OtherCurriculum, parse_donor
from pbrlib.curriculum.spec import Curriculum, Slug
from pbrlib.errors import ConfigError
from pbrlib.spec import Spec


class LadderSpec(Spec):
    """Spec of the file of a ladder.

    Attributes:
        waves: The waves in order; each maps names of curricula to their files, relative to the ladder's file.
            The curricula of one wave do not depend on each other, so they may train in parallel.
    """

    waves: Annotated[
        tuple[Annotated[Mapping[Slug, str], Field(min_length=1)], ...],
        Field(min_length=1),
    ]

    @model_validator(mode="after")
    def _check_names(self) -> LadderSpec:
        names = [name for wave in self.waves for name in wave]
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                raise ValueError(f"waves: got {name} in several waves; expected it once. Remove the others.")
        return self


@dataclass(frozen=True)
class LadderEntry:
    """One curriculum of a ladder, and its file."""

    file: Path
    curriculum: Curriculum


@dataclass(frozen=True)
class Ladder:
    """The curricula that one command trains, in waves; each comes after the curricula it depends on."""

    waves: tuple[tuple[LadderEntry, ...], ...]

    @property
    def entries(self) -> tuple[LadderEntry, ...]:
        """All curricula with their files, in the order of sequential training."""
        return tuple(entry for wave in self.waves for entry in wave)

    @property
    def curricula(self) -> tuple[Curriculum, ...]:
        """All curricula, in the order of sequential training."""
        return tuple(entry.curriculum for entry in self.entries)

    def only(self, names: Collection[str]) -> Ladder:
        """Return the ladder with only the curricula of these names."""
        kept = (tuple(entry for entry in wave if entry.curriculum.name in names) for wave in self.waves)
        return Ladder(tuple(wave for wave in kept if wave))


def in_waves(entries: Sequence[LadderEntry]) -> Ladder:
    """Order curricula into waves: each as early as its donors allow, otherwise in the given order.

    Raises ConfigError if some depend on each other.
    """
    waiting, waves = list(entries), []
    while waiting:
        names = {entry.curriculum.name for entry in waiting}
        ready = [entry for entry in waiting if not donors_of(entry.curriculum) & names]
        if not ready:
            raise ConfigError(
                f"curricula: got {', '.join(sorted(names))}, which depend on each other; expected no cycle. "
                "Remove one of the donors."
            )
        waiting = [entry for entry in waiting if entry not in ready]
        waves.append(tuple(ready))
    return Ladder(tuple(waves))


def donors_of(curriculum: Curriculum) -> set[str]:
    """Return the names of the other curricula whose weights a curriculum uses."""
    donors = [parse_donor(reference) for reference in outside_donors(curriculum)]
    found = {donor.curriculum for donor in donors if isinstance(donor, OtherCurriculum)}
    return found - {curriculum.name}


def chosen_phases(ladder: Ladder, wanted: str | None) -> dict[str, tuple[str, ...]]:
    """Return the phases of each curriculum that ``A..B`` (inclusive) or a name selects; None selects all.

    A curriculum without these phases is left out. Raises ConfigError if no curriculum has them in this order.
    """
    if wanted is None:
        return {curriculum.name: tuple(curriculum.phases) for curriculum in ladder.curricula}
    first, _, last = wanted.partition("..")
    last = last or first
    known = dict.fromkeys(phase for curriculum in ladder.curricula for phase in curriculum.phases)
    for name in (first, last):
        if name not in known:
            raise ConfigError(f"--phases: got {name!r}; expected a phase. {suggestion(name, known)}")
    chosen = {}
    for curriculum in ladder.curricula:
        names = tuple(curriculum.phases)
        if first not in names or last not in names:
            continue
        start, stop = names.index(first), names.index(last)
        if start > stop:
            raise ConfigError(f"--phases: got {wanted}; expected phases in order. Use {last}..{first}.")
        chosen[curriculum.name] = names[start : stop + 1]
    if not chosen:
        raise ConfigError(
            f"--phases: got {first}..{last} of different curricula; expected phases of one curriculum. "
            "Train them with separate commands."
        )
    return chosen


def order_mistakes(ladder: Ladder) -> list[Mistake]:
    """Return a mistake for each curriculum that is not in a later wave than its donors."""
    wave_of = {entry.curriculum.name: number for number, wave in enumerate(ladder.waves) for entry in wave}
    mistakes = []
    for curriculum in ladder.curricula:
        own = wave_of[curriculum.name]
        late = sorted(donor for donor in donors_of(curriculum) if wave_of.get(donor, -1) >= own)
        if late:
            message = (
                f"got donors {', '.join(late)} in the same or a later wave; expected an earlier wave. "
                f"Move {curriculum.name} to a later wave."
            )
            mistakes.append(Mistake(f"waves.{own}.{curriculum.name}", message))
    return mistakes

"""A ladder: the curricula of a recipe, in the waves in which they train."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from pbrlib.curriculum.fingerprint import outside_donors
from pbrlib.curriculum.mistakes import Mistake
from pbrlib.curriculum.references import OtherCurriculum, parse_donor
from pbrlib.curriculum.spec import Curriculum, Slug
from pbrlib.errors import ConfigError
from pbrlib.spec import Spec


class LadderSpec(Spec):
    """The file of a ladder.

    Attributes:
        waves: One after the other; each names its curricula and their files, relative to the ladder's. The
            curricula of one wave need nothing of each other, so they may train side by side.
    """

    waves: Annotated[
        tuple[Annotated[Mapping[Slug, str], Field(min_length=1)], ...],
        Field(min_length=1),
    ]

    @model_validator(mode="after")
    def _each_once(self) -> LadderSpec:
        names = [name for wave in self.waves for name in wave]
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                raise ValueError(f"waves: {name} stands in several waves. Keep one.")
        return self


@dataclass(frozen=True)
class Family:
    """A curriculum and the file it stands in."""

    file: Path
    curriculum: Curriculum


@dataclass(frozen=True)
class Ladder:
    """What one command trains: families in waves, each after all that it builds on."""

    waves: tuple[tuple[Family, ...], ...]

    @property
    def families(self) -> tuple[Family, ...]:
        """All families, in the order in which they train one by one."""
        return tuple(family for wave in self.waves for family in wave)

    @property
    def curricula(self) -> tuple[Curriculum, ...]:
        """Those of the families."""
        return tuple(family.curriculum for family in self.families)

    def only(self, names: Collection[str]) -> Ladder:
        """The ladder without the families of other names."""
        kept = (tuple(family for family in wave if family.curriculum.name in names) for wave in self.waves)
        return Ladder(tuple(wave for wave in kept if wave))


def in_waves(families: Sequence[Family]) -> Ladder:
    """Each family as early as its donors allow, else as given.

    Raises ConfigError when some wait for each other.
    """
    waiting, waves = list(families), []
    while waiting:
        names = {family.curriculum.name for family in waiting}
        ready = [family for family in waiting if not donors_of(family.curriculum) & names]
        if not ready:
            raise ConfigError(f"{', '.join(sorted(names))} build on each other. Break the circle of donors.")
        waiting = [family for family in waiting if family not in ready]
        waves.append(tuple(ready))
    return Ladder(tuple(waves))


def donors_of(curriculum: Curriculum) -> set[str]:
    """The other curricula whose weights it builds on."""
    donors = [parse_donor(reference) for reference in outside_donors(curriculum)]
    found = {donor.curriculum for donor in donors if isinstance(donor, OtherCurriculum)}
    return found - {curriculum.name}


def chosen_phases(ladder: Ladder, wanted: str | None) -> dict[str, tuple[str, ...]]:
    """The phases of each family that ``A..B`` (both included) or a single name asks for; None is all.

    A family without them is left out. Raises ConfigError where no family has them, or in another order.
    """
    if wanted is None:
        return {curriculum.name: tuple(curriculum.phases) for curriculum in ladder.curricula}
    first, _, last = wanted.partition("..")
    last = last or first
    known = dict.fromkeys(phase for curriculum in ladder.curricula for phase in curriculum.phases)
    for name in (first, last):
        if name not in known:
            raise ConfigError(f"--phases: no phase {name!r}. The phases are {', '.join(known)}.")
    chosen = {}
    for curriculum in ladder.curricula:
        names = tuple(curriculum.phases)
        if first not in names or last not in names:
            continue
        start, stop = names.index(first), names.index(last)
        if start > stop:
            raise ConfigError(f"--phases: {wanted} runs backwards. Write {last}..{first}.")
        chosen[curriculum.name] = names[start : stop + 1]
    if not chosen:
        raise ConfigError(f"--phases: no curriculum has both {first} and {last}. Name phases of one.")
    return chosen


def order_mistakes(ladder: Ladder) -> list[Mistake]:
    """The families that stand before something they build on, or beside it."""
    wave_of = {family.curriculum.name: number for number, wave in enumerate(ladder.waves) for family in wave}
    mistakes = []
    for curriculum in ladder.curricula:
        own = wave_of[curriculum.name]
        late = sorted(donor for donor in donors_of(curriculum) if wave_of.get(donor, -1) >= own)
        if late:
            message = f"builds on {', '.join(late)}, in no earlier wave. Move it to a later one."
            mistakes.append(Mistake(f"waves.{own}.{curriculum.name}", message))
    return mistakes

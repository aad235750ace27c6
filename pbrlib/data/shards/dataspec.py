"""The data of a command: folders or S3 addresses, names of their sources, and renamed sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from pbrlib.errors import ConfigError

_NAMED = re.compile(r"(?P<source>[A-Za-z0-9][A-Za-z0-9_-]*)=(?P<location>.+)", re.DOTALL)

Recorded: TypeAlias = str | list[str]
"""Places in a record: the text of a single place, or a list of texts."""


@dataclass(frozen=True)
class DataPlace:
    """A folder or S3 address of data; ``source`` replaces the names of its sources, unless it is None."""

    location: str
    source: str | None = None

    @classmethod
    def parse(cls, text: str) -> DataPlace:
        """Parse ``[SOURCE=]PATH``; a relative path of the form ``name=...`` is written as ``./name=...``."""
        named = _NAMED.fullmatch(text)
        return cls(text) if named is None else cls(named["location"], named["source"])

    def __str__(self) -> str:
        """Return the text that ``parse`` reads."""
        if self.source is not None:
            return f"{self.source}={self.location}"
        return f"./{self.location}" if _NAMED.fullmatch(self.location) else self.location


@dataclass(frozen=True)
class DataSpec:
    """The data of a command: its places and renamed sources.

    ``renamed`` maps the names of sources in curricula to sources of the data, from ``--source NAME=SOURCE``.
    """

    places: tuple[DataPlace, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_location(cls, location: str | Path) -> DataSpec:
        """Return the data of one place, without renamed sources."""
        return cls((DataPlace(str(location)),))

    @classmethod
    def from_options(cls, places: Sequence[DataPlace], renamed: Sequence[tuple[str, str]] = ()) -> DataSpec:
        """Return the data of the options of a command; raises ConfigError if the options contradict."""
        locations = [_absolute(place.location) for place in places]
        for number, location in enumerate(locations):
            if location in locations[:number]:
                raise ConfigError(f"--data: got {places[number].location} twice; expected each set once.")
        names = [name for name, _ in renamed]
        for name in names:
            if names.count(name) > 1:
                given = ", ".join(source for other, source in renamed if other == name)
                raise ConfigError(
                    f"--source {name}: got several sources ({given}); expected one. Keep one of them, or "
                    f"give the sets one name: --data {name}=PATH for each."
                )
        return cls(tuple(places), dict(renamed))

    @classmethod
    def from_record(cls, places: object, renamed: object = None) -> DataSpec | None:
        """Return the data of a record that ``record`` made, or None if it is no such record."""
        texts = [places] if isinstance(places, str) else places
        names = renamed or {}
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            return None
        if not isinstance(names, dict):
            return None
        return cls(tuple(DataPlace.parse(text) for text in texts), names)

    def record(self) -> Recorded:
        """Return the places in the form of a record."""
        texts = [str(place) for place in self.places]
        return texts[0] if len(texts) == 1 else texts

    def resolved(self) -> DataSpec:
        """Return the same data with absolute paths, since workers run in other folders."""
        places = (replace(place, location=_absolute(place.location)) for place in self.places)
        return replace(self, places=tuple(places))

    def describe(self) -> str:
        """Return the places and the renamed sources in one line."""
        return "; ".join(
            [str(self), *(f"{name} is fed from {source}" for name, source in self.renamed.items())]
        )

    def __str__(self) -> str:
        """Return the places in one line."""
        return ", ".join(map(str, self.places))


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).resolve())

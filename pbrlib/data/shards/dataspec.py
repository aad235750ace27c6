"""What a command line says of its data: places, what their materials count as, sources by other names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from pbrlib.errors import ConfigError

_NAMED = re.compile(r"(?P<source>[A-Za-z0-9][A-Za-z0-9_-]*)=(?P<location>.+)", re.DOTALL)

Recorded: TypeAlias = str | list[str]
"""Places as records keep them: the text of the only one, or a list of texts."""


@dataclass(frozen=True)
class DataPlace:
    """A folder or S3 address of data; ``source`` is what its materials count as, None: as they are named."""

    location: str
    source: str | None = None

    @classmethod
    def parse(cls, text: str) -> DataPlace:
        """Reads ``[SOURCE=]PATH``; a relative path that looks like ``name=...`` is written ``./name=...``."""
        named = _NAMED.fullmatch(text)
        return cls(text) if named is None else cls(named["location"], named["source"])

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        if self.source is not None:
            return f"{self.source}={self.location}"
        return f"./{self.location}" if _NAMED.fullmatch(self.location) else self.location


@dataclass(frozen=True)
class DataSpec:
    """The data of a command: its places, and which source feeds a name of the curricula.

    ``renamed`` maps names that curricula use to sources of the data, as ``--source NAME=SOURCE`` gives them.
    """

    places: tuple[DataPlace, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, location: str | Path) -> DataSpec:
        """Returns the data in one place, its sources as they are named."""
        return cls((DataPlace(str(location)),))

    @classmethod
    def given(cls, places: Sequence[DataPlace], renamed: Sequence[tuple[str, str]] = ()) -> DataSpec:
        """Puts the options of a command together; raises ConfigError where they contradict each other."""
        locations = [_whole(place.location) for place in places]
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
    def recorded(cls, places: object, renamed: object = None) -> DataSpec | None:
        """Reads what ``record`` returned; None where it is nothing of the kind."""
        texts = [places] if isinstance(places, str) else places
        names = renamed or {}
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            return None
        if not isinstance(names, dict):
            return None
        return cls(tuple(DataPlace.parse(text) for text in texts), names)

    def record(self) -> Recorded:
        """Returns the places as a record keeps them."""
        texts = [str(place) for place in self.places]
        return texts[0] if len(texts) == 1 else texts

    def resolved(self) -> DataSpec:
        """Returns the same data with whole paths, since workers run in other folders."""
        places = (replace(place, location=_whole(place.location)) for place in self.places)
        return replace(self, places=tuple(places))

    def describe(self) -> str:
        """Return the places, and which sources feed which names, in one line."""
        return "; ".join(
            [str(self), *(f"{name} is fed from {source}" for name, source in self.renamed.items())]
        )

    def __str__(self) -> str:
        """The places in one line."""
        return ", ".join(map(str, self.places))


def _whole(location: str) -> str:
    return location if "://" in location else str(Path(location).resolve())

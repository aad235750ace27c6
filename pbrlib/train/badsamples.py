"""How many draws had to be replaced since their tiles are damaged, and which materials that were."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbrlib.train.record.journal import whole_lines

if TYPE_CHECKING:
    from pbrlib.train.runtime import Runtime

BAD_SAMPLES = "bad_samples"
"""The kind of a journal's line about them, and the name of their number since the phase began."""


@dataclass
class BadSamples:
    """The replaced draws of a phase: those of all ranks until the last validation, then those of this rank.

    ``num`` is their number, as far as this rank knows it; ``known`` are the damaged materials by id.
    """

    num: int = 0
    known: set[str] = field(default_factory=set)
    _new: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def resumed(cls, directory: Path, *, step: int) -> BadSamples:
        """Those of a phase of which ``step`` steps are finished, out of its journal."""
        found = cls()
        for line in whole_lines(directory, kind=BAD_SAMPLES):
            if line["step"] <= step:
                found.num, found.known = int(line[BAD_SAMPLES]), found.known | line["materials"].keys()
        return found

    def add(self, replaced: Iterable[tuple[str, str]]) -> None:
        """Counts the draws of one batch: for each a damaged material, and what is wrong with it."""
        before = len(self._new)
        self._new += replaced
        self.num += len(self._new) - before

    def share(self, runtime: Runtime) -> dict[str, Any] | None:
        """Adds what the other ranks have replaced since the last validation; every rank calls it together.

        Returns:
            What the journal is told: the number since the phase began, that since the last validation, and
            each material that is new with what is wrong with it. None where no rank has replaced any.
        """
        own, self._new = self._new, []
        shares = runtime.gather([json.dumps(pair) for pair in own])
        every = [json.loads(text) for share in shares for text in share]
        self.num += len(every) - len(own)
        materials = {name: why for name, why in reversed(every) if name not in self.known}
        self.known |= materials.keys()
        if not every:
            return None
        return {BAD_SAMPLES: float(self.num), "draws": float(len(every)), "materials": materials}


def describe_bad_samples(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """For people, of the lines of a journal: how many draws, and each damaged material; empty where none."""
    own = [line for line in lines if line.get("kind") == BAD_SAMPLES]
    if not own:
        return []
    materials = {name: why for line in own for name, why in line["materials"].items()}
    number = f"{own[-1][BAD_SAMPLES]:.0f} draws of {len(materials)} damaged materials were replaced"
    return [
        f"{number} (on_bad_sample: skip)",
        *(f"damaged: {name}: {why}" for name, why in materials.items()),
    ]

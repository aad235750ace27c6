"""Counts the draws that were replaced because their tiles are damaged, and lists the damaged materials."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbrlib.train.record.journal import journal_lines

if TYPE_CHECKING:
    from pbrlib.train.runtime import Runtime

BAD_SAMPLES = "bad_samples"
"""Kind of the journal's lines about replaced draws, and the name of their number in these lines."""


@dataclass
class BadSamples:
    """The replaced draws of a phase: of all ranks until the last validation, of this rank since then.

    ``num`` is the number known to this rank; ``known`` are the ids of the damaged materials.
    """

    num: int = 0
    known: set[str] = field(default_factory=set)
    _new: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def resumed(cls, directory: Path, *, step: int) -> BadSamples:
        """Restore the replaced draws of a phase from its journal, up to ``step``."""
        found = cls()
        for line in journal_lines(directory, kind=BAD_SAMPLES):
            if line["step"] <= step:
                found.num, found.known = int(line[BAD_SAMPLES]), found.known | line["materials"].keys()
        return found

    def add(self, replaced: Iterable[tuple[str, str]]) -> None:
        """Count the replaced draws of one batch, given as pairs of damaged material and reason."""
        before = len(self._new)
        self._new += replaced
        self.num += len(self._new) - before

    def share(self, runtime: Runtime) -> dict[str, Any] | None:
        """Add the draws that other ranks replaced since the last validation; a collective.

        Returns:
            Values for the journal: the number since the start of the phase, the number since the last
            validation, and each new material with its reason. None if no rank replaced a draw.
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
    """Format the replaced draws in a journal for display: their number and each damaged material."""
    own = [line for line in lines if line.get("kind") == BAD_SAMPLES]
    if not own:
        return []
    materials = {name: why for line in own for name, why in line["materials"].items()}
    number = f"{own[-1][BAD_SAMPLES]:.0f} draws of {len(materials)} damaged materials were replaced"
    return [
        f"{number} (on_bad_sample: skip)",
        *(f"damaged: {name}: {why}" for name, why in materials.items()),
    ]

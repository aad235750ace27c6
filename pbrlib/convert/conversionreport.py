"""What became of every file: for people a table, for programs ``report.json``."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pbrlib.convert.seams import SeamRatio
from pbrlib.errors import printable
from pbrlib.maps import DIFFUSE, TRUE_PBR
from pbrlib.textures.aside import MEANT, Aside, Fate

if TYPE_CHECKING:
    from rich.table import Table

FILE = "report.json"

MOST_NAMED = 4
"""Files of one reason that a table names; ``report.json`` names all."""


@dataclass(frozen=True)
class Converted:
    """A finished texture: size in pixels, seam ratios of the input and of each map.

    ``seconds`` are those of the networks; decoding and writing run beside them.
    """

    name: str
    width: int
    height: int
    tiles: bool
    opaque: bool
    seconds: float
    seams: Mapping[str, SeamRatio]
    notes: tuple[str, ...]
    files: tuple[str, ...]


@dataclass
class Report:
    """The result of a conversion, filled as it goes.

    Attributes:
        source: The folder that was given.
        output: The folder of the mod.
        root: The folder that texture paths begin at.
        state: ``running``, ``complete``, ``stopped`` by a signal, or ``failed``.
        reason: Why it is not complete.
        total: Number of pairs to convert; None until they are listed.
        notes: What a user should know of the tree as a whole.
        converted: What was converted.
        asides: What was not.
        seconds: How long it took.
    """

    source: str
    output: str
    root: str = ""
    state: str = "running"
    reason: str = ""
    total: int | None = None
    notes: list[str] = field(default_factory=list)
    converted: list[Converted] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    seconds: float = 0.0
    _code: int | None = None

    def end(self, state: str, reason: str, *, code: int | None, pending: Sequence[Aside]) -> None:
        """Enters how the conversion ended, and what it left."""
        self.state, self.reason, self._code = state, reason, code
        self.asides += pending

    @property
    def num_failed(self) -> int:
        """Textures that should have been converted and were not."""
        return sum(aside.fate is Fate.FAILED for aside in self.asides)

    @property
    def exit_code(self) -> int:
        """1 if anything is left out that is not left out by its kind, 128 and the number of a signal."""
        if self._code is not None:
            return self._code
        return int(any(aside.fate not in MEANT for aside in self.asides))

    def counts(self, pending: Sequence[Aside] = ()) -> dict[str, int]:
        """Number of files by fate."""
        fates = Counter(aside.fate.value for aside in (*self.asides, *pending))
        return {"converted": len(self.converted), **dict(sorted(fates.items()))}

    def as_dict(self, pending: Sequence[Aside] = ()) -> dict[str, Any]:
        """What ``report.json`` holds; ``pending`` are the pairs that wait for their turn."""
        return {
            "source": printable(self.source),
            "output": printable(self.output),
            "root": printable(self.root),
            "state": self.state,
            "reason": printable(self.reason),
            "notes": [printable(note) for note in self.notes],
            "seconds": round(self.seconds, 3),
            "counts": self.counts(pending),
            "converted": [asdict(item) for item in sorted(self.converted, key=lambda item: item.name)],
            "left_out": [
                {
                    "path": printable(aside.path.as_posix()),
                    "fate": aside.fate.value,
                    "reason": printable(aside.reason),
                }
                for aside in (*self.asides, *pending)
            ],
        }

    def encode(self, pending: Sequence[Aside] = ()) -> bytes:
        """``report.json`` as bytes."""
        return (json.dumps(self.as_dict(pending), indent=2) + "\n").encode()

    def table(self) -> Table:
        """The converted textures."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"converted to {escape(printable(self.output))}: {len(self.converted)}")
        for heading, right in (("texture", False), ("px", True), ("tiles", False), ("s", True)):
            table.add_column(heading, justify="right" if right else "left", overflow="fold")
        table.add_column("seam: diffuse", justify="right")
        table.add_column("worst map", justify="right")
        table.add_column("notes", overflow="fold")
        for item in sorted(self.converted, key=lambda item: item.name):
            worst = max((worst_side(s), name) for name, s in item.seams.items() if name in TRUE_PBR)
            table.add_row(
                escape(printable(item.name)),
                f"{item.width} x {item.height}",
                "yes" if item.tiles else "no",
                f"{item.seconds:.1f}",
                f"{worst_side(item.seams[DIFFUSE.name]):.2f}",
                f"{worst[0]:.2f} {worst[1]}",
                escape(printable("; ".join(item.notes))),
            )
        return table


def left_out_table(asides: Sequence[Aside]) -> Table:
    """Files that are left out: those of one reason in one row, the first of them by name."""
    from rich.markup import escape
    from rich.table import Table

    groups: dict[tuple[Fate, str], list[Aside]] = defaultdict(list)
    for aside in asides:
        groups[aside.fate, aside.reason].append(aside)
    failed = sum(aside.fate is Fate.FAILED for aside in asides)
    table = Table(title=f"left out: {len(asides)}, of which failed: {failed}")
    for heading in ("file", "fate", "reason"):
        table.add_column(heading, overflow="fold")
    for fate in Fate:
        for (_, reason), group in ((key, group) for key, group in groups.items() if key[0] is fate):
            names = [escape(printable(aside.path.as_posix())) for aside in group[:MOST_NAMED]]
            more = [f"and {len(group) - MOST_NAMED} more"] if len(group) > MOST_NAMED else []
            style = "red" if fate is Fate.FAILED else None
            table.add_row("\n".join([*names, *more]), fate.value, escape(printable(reason)), style=style)
    return table


def worst_side(seam: SeamRatio) -> float:
    """The larger of both borders' ratios."""
    return max(seam.columns, seam.rows)

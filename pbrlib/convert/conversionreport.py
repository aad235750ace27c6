"""What became of every file: for people a table, for programs ``report.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pbrlib.convert.seams import SeamRatio
from pbrlib.maps import DIFFUSE, TRUE_PBR
from pbrlib.textures.pairs import Aside, Fate

if TYPE_CHECKING:
    from rich.table import Table

FILE = "report.json"


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
    """The result of a conversion, filled as it goes."""

    source: str
    output: str
    converted: list[Converted] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_failed(self) -> int:
        """Textures that should have been converted and were not."""
        return sum(aside.fate is Fate.FAILED for aside in self.asides)

    @property
    def exit_code(self) -> int:
        """1 if anything failed; what is skipped or unpaired is no failure."""
        return 1 if self.num_failed else 0

    def counts(self) -> dict[str, int]:
        """Number of files by fate."""
        fates = Counter(aside.fate.value for aside in self.asides)
        return {"converted": len(self.converted), **dict(sorted(fates.items()))}

    def as_dict(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        return {
            "source": self.source,
            "output": self.output,
            "seconds": round(self.seconds, 3),
            "counts": self.counts(),
            "converted": [asdict(item) for item in sorted(self.converted, key=lambda item: item.name)],
            "left_out": [
                {"path": aside.path.as_posix(), "fate": aside.fate.value, "reason": aside.reason}
                for aside in self.asides
            ],
        }

    def encode(self) -> bytes:
        """``report.json`` as bytes."""
        return (json.dumps(self.as_dict(), indent=2) + "\n").encode()

    def tables(self) -> list[Table]:
        """The converted textures and the files left out; an empty one is not shown."""
        tables = [self._converted()] if self.converted else []
        return [*tables, self._left_out()] if self.asides else tables

    def _converted(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"converted to {escape(self.output)}: {len(self.converted)}")
        for heading, right in (("texture", False), ("px", True), ("tiles", False), ("s", True)):
            table.add_column(heading, justify="right" if right else "left", overflow="fold")
        table.add_column("seam: diffuse", justify="right")
        table.add_column("worst map", justify="right")
        table.add_column("notes", overflow="fold")
        for item in sorted(self.converted, key=lambda item: item.name):
            worst = max((worst_side(s), name) for name, s in item.seams.items() if name in TRUE_PBR)
            table.add_row(
                escape(item.name),
                f"{item.width} x {item.height}",
                "yes" if item.tiles else "no",
                f"{item.seconds:.1f}",
                f"{worst_side(item.seams[DIFFUSE.name]):.2f}",
                f"{worst[0]:.2f} {worst[1]}",
                escape("; ".join(item.notes)),
            )
        return table

    def _left_out(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"left out: {len(self.asides)}, of which failed: {self.num_failed}")
        for heading in ("file", "fate", "reason"):
            table.add_column(heading, overflow="fold")
        for aside in self.asides:
            style = "red" if aside.fate is Fate.FAILED else None
            table.add_row(escape(aside.path.as_posix()), aside.fate.value, escape(aside.reason), style=style)
        return table


def worst_side(seam: SeamRatio) -> float:
    """The larger of both borders' ratios."""
    return max(seam.columns, seam.rows)

"""The report of a conversion: tables for the terminal, and ``report.json``."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pbrlib.convert.seams import SeamRatio
from pbrlib.errors import printable
from pbrlib.maps import DIFFUSE, TRUE_PBR
from pbrlib.textures.leftout import INTENDED, LeftOutFile, Outcome

if TYPE_CHECKING:
    from rich.table import Table

REPORT_FILE = "report.json"

MAX_NAMED_FILES = 4
"""Number of files with the same reason that a table names; ``report.json`` names all of them."""


@dataclass(frozen=True)
class ConvertedTexture:
    """A converted texture: its size in pixels, and the seam ratios of the input and of each map.

    ``seconds`` is the time of inference; decoding and writing run in parallel and are not included.
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
    """The result of a conversion; entries are added while the conversion runs.

    Attributes:
        source: The input folder.
        output: The folder of the converted mod.
        root: The texture root.
        state: ``running``, ``complete``, ``stopped`` by a signal, or ``failed``.
        reason: Why the conversion is not complete; empty if it is.
        total: Number of pairs to convert; None until they are listed.
        notes: Remarks on the whole texture tree.
        converted: The converted textures.
        left_out: The files that were not converted.
        seconds: Duration of the conversion.
    """

    source: str
    output: str
    root: str = ""
    state: str = "running"
    reason: str = ""
    total: int | None = None
    notes: list[str] = field(default_factory=list)
    converted: list[ConvertedTexture] = field(default_factory=list)
    left_out: list[LeftOutFile] = field(default_factory=list)
    seconds: float = 0.0
    _code: int | None = None

    def end(self, state: str, reason: str, *, code: int | None, pending: Sequence[LeftOutFile]) -> None:
        """Record how the conversion ended, and the pairs that it did not reach."""
        self.state, self.reason, self._code = state, reason, code
        self.left_out += pending

    @property
    def num_failed(self) -> int:
        """Return the number of textures that failed to convert."""
        return sum(file.outcome is Outcome.FAILED for file in self.left_out)

    @property
    def exit_code(self) -> int:
        """Return 0 if every material was converted, 1 if any was left out, 128 + n after signal n."""
        if self._code is not None:
            return self._code
        return int(any(file.outcome not in INTENDED for file in self.left_out))

    def counts(self, pending: Sequence[LeftOutFile] = ()) -> dict[str, int]:
        """Return the number of files by outcome."""
        outcomes = Counter(file.outcome.value for file in (*self.left_out, *pending))
        return {"converted": len(self.converted), **dict(sorted(outcomes.items()))}

    def as_dict(self, pending: Sequence[LeftOutFile] = ()) -> dict[str, Any]:
        """Return the content of ``report.json``; ``pending`` are the pairs that are not converted yet."""
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
                    "path": printable(file.path.as_posix()),
                    "fate": file.outcome.value,
                    "reason": printable(file.reason),
                }
                for file in (*self.left_out, *pending)
            ],
        }

    def encode(self, pending: Sequence[LeftOutFile] = ()) -> bytes:
        """Return the content of ``report.json`` as bytes."""
        return (json.dumps(self.as_dict(pending), indent=2) + "\n").encode()

    def table(self) -> Table:
        """Return a table of the converted textures."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"converted to {escape(printable(self.output))}: {len(self.converted)}")
        for heading, right in (("texture", False), ("px", True), ("tiles", False), ("s", True)):
            table.add_column(heading, justify="right" if right else "left", overflow="fold")
        table.add_column("seam: diffuse", justify="right")
        table.add_column("worst map", justify="right")
        table.add_column("notes", overflow="fold")
        for item in sorted(self.converted, key=lambda item: item.name):
            worst = max((worst_ratio(s), name) for name, s in item.seams.items() if name in TRUE_PBR)
            table.add_row(
                escape(printable(item.name)),
                f"{item.width} x {item.height}",
                "yes" if item.tiles else "no",
                f"{item.seconds:.1f}",
                f"{worst_ratio(item.seams[DIFFUSE.name]):.2f}",
                f"{worst[0]:.2f} {worst[1]}",
                escape(printable("; ".join(item.notes))),
            )
        return table


def left_out_table(left_out: Sequence[LeftOutFile]) -> Table:
    """Return a table of the files that are left out, with one row for each reason."""
    from rich.markup import escape
    from rich.table import Table

    groups: dict[tuple[Outcome, str], list[LeftOutFile]] = defaultdict(list)
    for file in left_out:
        groups[file.outcome, file.reason].append(file)
    failed = sum(file.outcome is Outcome.FAILED for file in left_out)
    table = Table(title=f"left out: {len(left_out)}, of which failed: {failed}")
    for heading in ("file", "outcome", "reason"):
        table.add_column(heading, overflow="fold")
    for outcome in Outcome:
        for (_, reason), group in ((key, group) for key, group in groups.items() if key[0] is outcome):
            names = [escape(printable(file.path.as_posix())) for file in group[:MAX_NAMED_FILES]]
            more = [f"and {len(group) - MAX_NAMED_FILES} more"] if len(group) > MAX_NAMED_FILES else []
            style = "red" if outcome is Outcome.FAILED else None
            table.add_row("\n".join([*names, *more]), outcome.value, escape(printable(reason)), style=style)
    return table


def worst_ratio(seam: SeamRatio) -> float:
    """Return the larger seam ratio of the two axes."""
    return max(seam.columns, seam.rows)

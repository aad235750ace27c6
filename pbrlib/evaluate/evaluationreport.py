"""The report of an evaluation: a table for the terminal and ``evaluation.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbrlib import storage
from pbrlib.evaluate.compare import MIN_TEXTURES, Comparison, Verdict, compare
from pbrlib.evaluate.scores import NET, Scores

if TYPE_CHECKING:
    from rich.table import Table

FILE = "evaluation.json"

_MARKS = {
    Verdict.BETTER: "[green]better than all[/]",
    Verdict.BETTER_ON_AVERAGE: "[yellow]better on average[/]",
    Verdict.NOT_BETTER: "[red]NOT better[/]",
    Verdict.NO_BASELINE: "",
}


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        title: Description of the scored textures.
        scores: All metrics.
        about: Metadata: data, checkpoints, protocol, statistics.
        notes: Sentences shown below the table.
        sheets: Contact sheets as PNG files.
    """

    title: str
    scores: Scores
    about: Mapping[str, Any]
    notes: Sequence[str] = ()
    sheets: Sequence[bytes] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``evaluation.json``: metrics with intervals, and values per texture."""
        scores = self.scores
        maps: dict[str, dict[str, Any]] = {}
        for found in compare(scores):
            maps.setdefault(found.map, {})[found.metric] = {
                "better": "higher" if found.higher_is_better else "lower",
                "num_textures": found.num_textures,
                "methods": {name: asdict(interval) for name, interval in found.methods.items()},
                "net_minus_baseline": {
                    name: asdict(interval) for name, interval in found.differences.items()
                },
                "best_baseline": found.best_baseline,
                "beaten_by": list(found.beaten_by),
                "verdict": found.verdict.value,
            }
        lpips = scores.lpips
        return {
            "title": self.title,
            **self.about,
            "lpips": None if lpips is None else {"net": lpips.net, "weights": lpips.weights},
            "notes": list(self.notes),
            "maps": maps,
            "left_out": {name: list(ids) for name, ids in scores.left_out.items()},
            "per_texture": scores.values,
            "confusions": {
                method: {sample: matrix.tolist() for sample, matrix in matrices.items()}
                for method, matrices in scores.confusions.items()
            },
        }

    def write(self, path: Path) -> list[Path]:
        """Write the JSON to a file and the sheets beside it as ``contact-1.png`` and so on.

        Raises:
            DataError: A file cannot be written.
        """
        files = {path: (json.dumps(self.as_dict(), indent=1) + "\n").encode()}
        files |= {path.parent / f"contact-{n}.png": data for n, data in enumerate(self.sheets, start=1)}
        for place, data in files.items():
            storage.write_atomic(place, data)
        return list(files)

    def table(self) -> Table:
        """Build a table with one row per metric: networks, strongest baseline, difference and verdict."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(
            title=escape(self.title), caption=escape("\n".join(self._captions())), box=box.SIMPLE_HEAD
        )
        for heading in ("map", "metric"):
            table.add_column(heading, no_wrap=True)
        for heading in ("n", "net [95 %]"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("strongest baseline")
        table.add_column("its mean", justify="right", no_wrap=True)
        table.add_column("net - baseline [95 %]", justify="right", no_wrap=True)
        table.add_column("net is", no_wrap=True)
        previous = ""
        for found in compare(self.scores):
            if previous and found.map != previous:
                table.add_section()
            table.add_row(found.map if found.map != previous else "", *_cells(found))
            previous = found.map
        return table

    def _captions(self) -> list[str]:
        missing = [f"{name} {len(ids)}" for name, ids in self.scores.left_out.items() if ids]
        lines = [
            "Means over textures with bootstrap intervals; IoU from one confusion matrix of all pixels, "
            "textures resampled.",
            f"Better than all: every interval of net - baseline excludes 0, with at least {MIN_TEXTURES} "
            "textures. NOT better k/n: k of n baselines are as good as the net or better.",
            *self.notes,
        ]
        return (
            [*lines, f"Left out, since they have no ground truth: {', '.join(missing)}."]
            if missing
            else lines
        )


def _cells(found: Comparison) -> list[str]:
    from rich.markup import escape

    arrow = "↑" if found.higher_is_better else "↓"
    net = found.methods[NET]
    cells = [f"{found.metric} {arrow}", str(found.num_textures)]
    cells.append(escape(f"{net.mean:.3f} [{net.low:.3f}, {net.high:.3f}]"))
    name = found.best_baseline
    if name is None:
        return [*cells, "-", "", "", ""]
    gap = found.differences[name]
    mark = _MARKS[found.verdict]
    if len(found.beaten_by) > 1:
        mark += f" {len(found.beaten_by)}/{len(found.differences)}"
    difference = escape(f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
    return [*cells, escape(name), f"{found.methods[name].mean:.3f}", difference, mark]

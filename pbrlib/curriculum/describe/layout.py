"""Formats lines and tables of a plan for the terminal, at most ``WIDTH`` columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

WIDTH = 110
LABEL_WIDTH = 11


def plain_table() -> Table:
    """Return a table without borders."""
    return Table(box=None, pad_edge=False, header_style="dim")


def joined(phrases: Iterable[str]) -> list[str]:
    """Return phrases with a comma after each but the last; ``-`` if there are none."""
    listed = list(phrases) or ["-"]
    return [f"{phrase}, " for phrase in listed[:-1]] + listed[-1:]


def labelled_lines(rows: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """Return a table of labels and phrases; lines are broken only between phrases."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", min_width=LABEL_WIDTH - 1, no_wrap=True)
    table.add_column(overflow="fold")
    for label, phrases in rows:
        table.add_row(label, Text("\n".join(_wrap(phrases, width=WIDTH - LABEL_WIDTH))))
    return table


def _wrap(phrases: Sequence[str], *, width: int) -> list[str]:
    lines = [""]
    for phrase in phrases:
        if lines[-1] and len(lines[-1]) + len(phrase.rstrip()) > width:
            lines.append("")
        lines[-1] += phrase if lines[-1] else phrase.lstrip()
    return [line.rstrip() for line in lines]


def grouped(number: int) -> str:
    """Format a whole number with spaces between thousands."""
    return f"{number:,}".replace(",", " ")

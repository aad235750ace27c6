"""Functions of the benchmarks: rounds in random order, medians with spread, CPU time of process trees.

Run as a script, it does nothing.
"""

from __future__ import annotations

import os
import random
import statistics
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

T = TypeVar("T")
EQUAL_PRIORITY = {"RAY_worker_niceness": "0"}
"""Environment variables: by default Ray runs its workers at nice 15, so other load would slow only them."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spread:
    """Quartiles of repeated measurements."""

    low: float
    median: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the quartiles of at least one value; those of a single value equal it."""
        found = list(values)
        quartiles = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
        return cls(quartiles[0], quartiles[1], quartiles[2], len(found))

    @classmethod
    def of_ratios(cls, above: Sequence[float], below: Sequence[float]) -> Spread:
        """Return the quartiles of the ratios within each round, in which the load of a round cancels."""
        return cls.of(one / two for one, two in zip(above, below, strict=True))


@dataclass(frozen=True)
class Goal:
    """A limit that a median has to meet."""

    side: Literal["at least", "at most"]
    value: float

    def met(self, median: float) -> bool:
        """Return whether a median meets the limit."""
        return median >= self.value if self.side == "at least" else median <= self.value


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    name: str
    spread: Spread
    unit: str
    goal: Goal | None = None


def interleaved(ways: Mapping[str, Callable[[], T]], *, rounds: int, dropped: int) -> dict[str, list[T]]:
    """Run every way once in each round, in random order, and return the results of each way.

    ``dropped`` additional rounds run first and do not count: they open files and import modules.
    """
    rng = random.Random(0)
    found: dict[str, list[T]] = {name: [] for name in ways}
    for turn in range(rounds + dropped):
        for name in rng.sample(sorted(ways), len(ways)):
            result = ways[name]()
            if turn >= dropped:
                found[name].append(result)
    return found


def show(title: str, lines: Sequence[Line]) -> None:
    """Print a table with medians, quartiles, goals, and whether the goals were met."""
    table = Table("", "median", "quartiles", "", "n", "goal", "", title=title, title_justify="left")
    for line in lines:
        spread, goal = line.spread, line.goal
        verdict = "" if goal is None else "[green]met" if goal.met(spread.median) else "[red]MISSED"
        table.add_row(
            line.name,
            figure(spread.median),
            f"{figure(spread.low)} .. {figure(spread.high)}",
            line.unit,
            str(spread.count),
            "" if goal is None else f"{goal.side} {goal.value:g}",
            verdict,
        )
    console = Console()
    console.width = max(console.width, 110)  # the default for a file or pipe is 80
    console.print(table)


def figure(value: float) -> str:
    """Return a number with about four significant digits."""
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:.{digits}f}"


def checksum(tensors: Iterable[Tensor]) -> int:
    """Return the CRC-32 of the bytes of tensors, in their order."""
    value = 0
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        value = zlib.crc32(flat.numpy().tobytes(), value)
    return value


def tree_cpu(root: int, *, without: Collection[int] = ()) -> float:
    """Return the CPU seconds of a process and all its descendants, including those that ended.

    A process that ended counts through the parent that waited for it. The sum is exact as long as no
    process in the tree is orphaned. A raylet does not wait for its children: use :func:`tree_cpu_until`
    where Ray ends processes. The subtrees of processes in ``without`` do not count. The kernel counts in
    ticks (10 ms for each process on Linux), so measure over seconds.
    """
    return sum(process.ticks + process.waited for process in _tree(root, without).values()) / _TICKS_PER_S


def tree_cpu_until(ended: Callable[[], bool], root: int, *, every_s: float = 0.05) -> float:
    """Return the CPU seconds that all descendants of a process use from now until ``ended``.

    Their CPU time is read repeatedly, so that processes that end meanwhile count too, up to their last
    reading.
    """
    before = {pid: process.ticks for pid, process in _tree(root).items()}
    last = dict(before)
    while not ended():
        time.sleep(every_s)
        last |= {pid: process.ticks for pid, process in _tree(root).items()}
    return sum(ticks - before.get(pid, 0) for pid, ticks in last.items() if pid != root) / _TICKS_PER_S


def children(root: int) -> frozenset[int]:
    """Return the child processes of a process."""
    return frozenset(pid for pid, process in _processes().items() if process.parent == root)


@dataclass(frozen=True)
class _Process:
    parent: int
    ticks: int
    waited: int


def _tree(root: int, without: Collection[int] = ()) -> dict[int, _Process]:
    """Return a process and all its descendants."""
    processes = _processes()
    below: dict[int, list[int]] = {}
    for pid, process in processes.items():
        below.setdefault(process.parent, []).append(pid)
    found, ends = {}, [root]
    while ends:
        pid = ends.pop()
        found[pid] = processes[pid]
        ends += [child for child in below.get(pid, []) if child not in without]
    return found


def _processes() -> dict[int, _Process]:
    """Return every process: its parent, its ticks, and the ticks of the children it waited for."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        parent, user, system, waited_user, waited_system = (int(fields[n]) for n in (1, 11, 12, 13, 14))
        found[int(folder.name)] = _Process(parent, user + system, waited_user + waited_system)
    return found

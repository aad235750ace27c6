"""What the benchmarks share: rounds in changing order, medians with their spread, CPU of process trees.

Run as a script it does nothing.
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
"""For the environment: Ray runs its workers at nice 15, so other work on the machine slows them alone."""

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
        """Of at least one value; a single one is its own spread."""
        found = list(values)
        quartiles = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
        return cls(quartiles[0], quartiles[1], quartiles[2], len(found))

    @classmethod
    def of_ratios(cls, above: Sequence[float], below: Sequence[float]) -> Spread:
        """Of the ratios within each round, so that what slows a whole round down cancels."""
        return cls.of(one / two for one, two in zip(above, below, strict=True))


@dataclass(frozen=True)
class Goal:
    """What a median is meant to reach."""

    side: Literal["at least", "at most"]
    value: float

    def met(self, median: float) -> bool:
        """Whether it is reached."""
        return median >= self.value if self.side == "at least" else median <= self.value


@dataclass(frozen=True)
class Line:
    """A line of a table."""

    name: str
    spread: Spread
    unit: str
    goal: Goal | None = None


def interleaved(ways: Mapping[str, Callable[[], T]], *, rounds: int, dropped: int) -> dict[str, list[T]]:
    """What each way gave in each round; a round runs every way once, in an order of its own.

    ``dropped`` more rounds run first and do not count: they open files and import modules.
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
    """Prints a table: medians, quartiles, goals and whether they were met."""
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
    console.width = max(console.width, 110)  # a file or a pipe would get 80
    console.print(table)


def figure(value: float) -> str:
    """About four digits."""
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{value:.{digits}f}"


def checksum(tensors: Iterable[Tensor]) -> int:
    """CRC-32 over the bytes of tensors, in their order."""
    value = 0
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        value = zlib.crc32(flat.numpy().tobytes(), value)
    return value


def tree_cpu(root: int, *, without: Collection[int] = ()) -> float:
    """Seconds of CPU that a process and all below it have used, ended ones included.

    An ended process counts through the parent that waited for it, so nothing is lost or counted twice as
    long as no process in the tree is orphaned. A raylet waits for none of its children: where Ray ends
    processes, :func:`tree_cpu_until` is the measure. ``without`` are processes whose subtrees do not count.
    The kernel counts in ticks (10 ms for each process on Linux): measure over seconds.
    """
    return sum(process.ticks + process.waited for process in _tree(root, without).values()) / _TICKS_PER_S


def tree_cpu_until(ended: Callable[[], bool], root: int, *, every_s: float = 0.05) -> float:
    """Seconds of CPU that all processes below one use from now until ``ended``.

    They are asked again and again, so that those that end meanwhile count, but for what they use after they
    were last asked.
    """
    before = {pid: process.ticks for pid, process in _tree(root).items()}
    last = dict(before)
    while not ended():
        time.sleep(every_s)
        last |= {pid: process.ticks for pid, process in _tree(root).items()}
    return sum(ticks - before.get(pid, 0) for pid, ticks in last.items() if pid != root) / _TICKS_PER_S


def children(root: int) -> frozenset[int]:
    """The processes directly below one."""
    return frozenset(pid for pid, process in _processes().items() if process.parent == root)


@dataclass(frozen=True)
class _Process:
    parent: int
    ticks: int
    waited: int


def _tree(root: int, without: Collection[int] = ()) -> dict[int, _Process]:
    """A process and all below it."""
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
    """Every process of the machine: its parent, its ticks, and those of the children it waited for."""
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

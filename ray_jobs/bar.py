"""The console of every command, and its progress: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from pbrlib.errors import printable
from ray_jobs.invocation import is_quiet

LINE_EVERY_S = 60.0
"""Interval between two lines of progress where the output is not a terminal."""

LOG_WIDTH = 150
"""Columns where the output is not a terminal: tables in a log are wide enough for names and paths."""


class Console(rich.console.Console):
    r"""A console whose texts cannot control the terminal, because names may come from strangers.

    Control characters, and bytes of a name that are not valid text, are printed as escapes (``\x1b``). The
    sequences that rich itself writes, to move the cursor or to set a colour, are not changed. ``log_width``
    is the least width where the output is not a terminal.
    """

    def __init__(self, *, log_width: int = LOG_WIDTH, **given: Any) -> None:
        super().__init__(**given)
        if not self.is_terminal and "width" not in given:
            self.width = max(self.width, log_width)

    def render_str(self, text: str, **given: Any) -> Text:
        """Return a text of rich, made printable before it is measured."""
        return super().render_str(printable(text), **given)

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of a renderable with printable texts."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


@contextmanager
def show_progress(what: str, *, console: Console | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show progress while the block runs; yields a function of the finished and the total number."""
    console = console or Console(stderr=True, quiet=is_quiet())
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        with _Lines(what, console) as lines:
            yield lines.update


class _Lines:
    """Write a line a minute in a separate thread, and one when the total is known."""

    def __init__(self, what: str, console: Console) -> None:
        self._what, self._console = what, console
        self._start = time.monotonic()
        self._counts: tuple[int, int] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Lines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def update(self, done: int, total: int) -> None:
        """Show the number of finished jobs, and the total."""
        first, self._counts = self._counts is None, (done, total)
        if first:
            self._write()

    def _run(self) -> None:
        while not self._over.wait(LINE_EVERY_S):
            self._write()

    def _write(self) -> None:
        passed = time.monotonic() - self._start
        if self._counts is None:
            line = f"{self._what}: starting, {_clock(passed)} so far"
        else:
            done, total = self._counts
            left = f", about {_clock(passed / done * (total - done))} left" if 0 < done < total else ""
            line = f"{self._what}: {done} of {total}, {_clock(passed)} so far{left}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    """Return a duration as ``1:05:09``."""
    return str(timedelta(seconds=round(seconds)))

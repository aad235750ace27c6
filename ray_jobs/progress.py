"""A line that a person can read, drawn from what rank 0 writes into metrics.jsonl."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pbrlib.train.journal import METRICS

POLL_S = 0.5
PLAIN_EVERY_S = 15.0
"""Where the output is no terminal, a line this often."""


class Progress:
    """Follows one phase after the other; on a terminal the line renews itself."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @contextmanager
    def follow(self, directory: Path, *, title: str) -> Iterator[None]:
        """Shows the progress of a phase while the block runs."""
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(directory, title, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)

    def _watch(self, directory: Path, title: str, stop: threading.Event) -> None:
        # What stands there already belongs to an earlier attempt.
        reader = _Tail(directory / METRICS)
        reader.newest("step")
        silent = 0.0
        while not stop.wait(POLL_S):
            silent += POLL_S
            values = reader.newest("step")
            if values is None:
                continue
            line = progress_line(title, values)
            if self._live.is_started:
                self._live.update(Text(line), refresh=True)
            elif silent >= PLAIN_EVERY_S:
                silent = 0.0
                self.console.print(line, highlight=False, soft_wrap=True)


class _Tail:
    """Reads what was appended to a file since the last look; a file that was rewritten is read anew."""

    def __init__(self, path: Path) -> None:
        self._path, self._position, self._identity = path, 0, -1

    def newest(self, kind: str) -> Mapping[str, Any] | None:
        """The last complete new line of a kind."""
        if not self._path.exists():
            return None
        status = self._path.stat()
        if status.st_ino != self._identity or status.st_size < self._position:
            self._identity, self._position = status.st_ino, 0
        with self._path.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        found = [line for line in map(json.loads, whole.splitlines()) if line["kind"] == kind]
        return found[-1] if found else None


def progress_line(title: str, values: Mapping[str, Any]) -> str:
    """Phase, epoch, step, loss, samples/s, input stall and time left in one line."""
    left = duration(values["seconds_left"])
    return (
        f"{title}  epoch {values['epoch']:.1f}  step {values['step']}/{values['total_steps']}  "
        f"loss {values['train/loss']:.4f}  {values['samples_per_s']:.1f} samples/s  "
        f"input stall {100 * values['input_stall']:.0f} %  {left} left"
    )


def duration(seconds: float) -> str:
    """``1 h 05 min``, ``3 min 20 s`` or ``45 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

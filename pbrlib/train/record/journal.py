"""The journal of a phase, written by rank 0: ``metrics.jsonl``, TensorBoard and trackers."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pbrlib import storage
from pbrlib.train.record.timesheet import TIME_SHEET, time_line

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from pbrlib.train.clock import Clock
    from pbrlib.train.record.trackers import Tracker

METRICS = "metrics.jsonl"

_TOTAL = re.compile(r"train/([^/]+/)?loss")
"""Matches the name of the total loss, with or without the name of a player."""

GPU_PEAK = "gpu_peak_bytes"
"""Key of the peak memory of tensors of rank 0, in the line of a step on a GPU."""

TRACKER = "tracker"
"""Kind of a line about values that did not reach a tracker."""

FALLBACK = "fallback"
"""Kind of a line about damaged checkpoints, at the step of the checkpoint that is used instead."""

ACCOUNT_EVERY_S = 10.0
"""Seconds between entries in the time sheet; a killed process loses at most this time."""


class Journal:
    """Appends to ``DIRECTORY/metrics.jsonl`` and ``DIRECTORY/tensorboard``, and forwards values to trackers.

    A resumed journal drops lines beyond the resumed step, so that every step has one line. The journal of a
    phase on S3 is written locally and uploaded every few seconds for observers, and before each checkpoint.
    """

    def __init__(self, directory: Path, *, first_step: int, trackers: Sequence[Tracker] = ()) -> None:
        # Imported here: TensorBoard takes a second to import, and only rank 0 needs it.
        from torch.utils.tensorboard import SummaryWriter

        directory.mkdir(parents=True, exist_ok=True)
        self._folder = storage.growing_folder(directory)
        path = self._folder.path / METRICS
        # A phase that starts from step 0 keeps no lines, not even those of step 0.
        known = _lines(directory / METRICS) if first_step > 0 else []
        kept = [line for line in known if json.loads(line)["step"] <= first_step]
        # Replaced by a new file, so that a process that follows the old file notices.
        storage.write_atomic(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(str(self._folder.path / "tensorboard"), purge_step=first_step + 1)
        self._accounted = -math.inf
        self._session_end: Any = None
        self._trackers, self._step = trackers, first_step
        self.send()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._trackers:
            if complaint := tracker.close(failed=error is not None):
                self._write(TRACKER, step=self._step, values={"complaint": complaint})
        self._file.close()
        if self._session_end is not None and error is None:
            self._summaries().add_summary(self._session_end)
        self._board.close()
        try:
            if error is None:
                self._folder.send()
            else:
                self._folder.try_to_send()
        finally:
            self._folder.close()

    def send(self) -> None:
        """Flush everything written so far to the phase's folder; raises DataError."""
        self._board.flush()
        self._folder.send()

    def scalars(self, kind: str, *, step: int, values: Mapping[str, Any]) -> None:
        """Write one line of metrics.jsonl; numbers also go to TensorBoard and the trackers."""
        self._write(kind, step=step, values=values)
        self._step = step
        numbers = {name: value for name, value in values.items() if isinstance(value, float)}
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)
        for tracker in self._trackers:
            tracker.scalars(numbers, step=step)

    def _write(self, kind: str, *, step: int, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")

    def tag(self, tags: Mapping[str, str | int | float], *, metric: str) -> None:
        """Write the hyperparameters for TensorBoard's HPARAMS tab, with the selection metric."""
        from torch.utils.tensorboard.summary import hparams

        experiment, session, end = hparams(dict(tags), {metric: 0.0})  # type: ignore[no-untyped-call]
        for summary in (experiment, session):
            self._summaries().add_summary(summary)
        self._session_end = end

    def _summaries(self) -> Any:
        """Return TensorBoard's file writer, for summaries without a SummaryWriter method."""
        return self._board.file_writer

    def account(self, clock: Clock, *, step: int, at_once: bool = False) -> None:
        """Enter the clock's times into the time sheet, every few seconds or ``at_once``.

        The first call is made when the first batch has arrived, which ends the start-up.
        """
        self._enter_time(clock, step=step, at_once=at_once)
        if self._folder.is_due:
            self._board.flush()
            self._folder.try_to_send()

    def _enter_time(self, clock: Clock, *, step: int, at_once: bool) -> None:
        begun, now = math.isfinite(self._accounted), time.monotonic()
        if not at_once and now - self._accounted < ACCOUNT_EVERY_S:
            return
        self._accounted, non_step = now, clock.take_non_step_seconds()
        if begun:
            self._folder.append(TIME_SHEET, time_line("spent", step=step, non_step=non_step))
        else:
            self._folder.append(TIME_SHEET, time_line("begun", step=step))

    def picture(self, name: str, *, step: int, image: Float[Tensor, "3 h w"]) -> None:
        """Write an sRGB image in [0, 1] to TensorBoard."""
        self._board.add_image(name, image.clamp(0, 1).cpu().numpy(), step)


def total_losses(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the total loss of each player in the line of a step, by its name in the line."""
    return {name: value for name, value in line.items() if _TOTAL.fullmatch(name)}


def note_between_attempts(directory: Path, kind: str, *, step: int, values: Mapping[str, Any]) -> None:
    """Append a line to the journal of a phase that is not being trained; raises DataError, OSError."""
    path = directory / METRICS
    line = json.dumps({"kind": kind, "step": step, **values})
    storage.write_atomic(path, "".join(f"{text}\n" for text in (*_lines(path), line)))


def journal_lines(directory: Path, *, kind: str) -> list[dict[str, Any]]:
    """Return the lines of one kind in the journal of a phase."""
    mark = json.dumps({"kind": kind})[:-1]
    return [json.loads(line) for line in _lines(directory / METRICS) if line.startswith(mark)]


def _lines(path: Path) -> list[str]:
    """Return the complete lines of a file, without a last line that was not finished."""
    text = path.read_text() if path.exists() else ""
    return text.split("\n")[:-1]

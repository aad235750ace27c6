"""Reports long waits for input and raises an error when a batch takes too long."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from pbrlib.data.draws.batch import RawBatch

REPORT_AFTER_S = 60.0
"""Seconds after which a wait is reported; it is reported again each time the duration has doubled."""

_OVER = object()


class StalledError(Exception):
    """The input did not arrive in time; a new attempt opens a new stream."""


class PatientStream(Iterator[RawBatch]):
    """Reads the batches of a stream in a separate thread, so that every wait has a time limit.

    ``step`` is the step of the batch that was requested last.

    Args:
        open_stream: Opens the stream.
        first_step: The step of the stream's first batch.
        limit_s: Time limit of a batch in seconds.
        report: Called for a long wait with the step, the seconds so far, and what the batch waits for.
        waits_for: Returns what a step's batch waits for.
        report_after_s: Seconds until a wait is reported for the first time.
    """

    def __init__(
        self,
        open_stream: Callable[[], Iterator[RawBatch]],
        *,
        first_step: int,
        limit_s: float,
        report: Callable[[int, float, str], None],
        waits_for: Callable[[int], str],
        report_after_s: float = REPORT_AFTER_S,
    ) -> None:
        self.step = first_step - 1
        self._limit_s, self._report_after_s = limit_s, report_after_s
        self._report, self._waits_for = report, waits_for
        self._asked: SimpleQueue[object] = SimpleQueue()
        self._given: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._ended: BaseException | None = None
        # A daemon thread, since a stream that never returns must not keep the process alive.
        threading.Thread(
            target=_serve, args=(open_stream, self._asked, self._given), name="input", daemon=True
        ).start()
        self.close = weakref.finalize(self, self._asked.put, _OVER)
        """Ends the stream, when it is called or its owner has gone."""

    def __next__(self) -> RawBatch:
        """Return the next batch; raises StalledError if it takes too long, or the stream's own error."""
        if self._ended is not None:
            raise self._ended
        self.step += 1
        self._asked.put(None)
        batch, self._ended = self._wait()
        if self._ended is not None:
            raise self._ended
        assert isinstance(batch, RawBatch)
        return batch

    def _wait(self) -> tuple[Any, BaseException | None]:
        began, next_word_s = time.monotonic(), self._report_after_s
        while True:
            until_s = min(next_word_s, self._limit_s) - (time.monotonic() - began)
            try:
                return self._given.get(timeout=max(until_s, 0.0))
            except Empty:
                waited = time.monotonic() - began
            if waited >= self._limit_s:
                raise StalledError(
                    f"no batch for step {self.step} within {self._limit_s:g} s; "
                    f"it waits for {self._waits_for(self.step)}"
                )
            if waited >= next_word_s:
                word = (self.step, waited, self._waits_for(self.step))
                # In a separate thread, since writing to the run's folder can block as long as the input.
                threading.Thread(target=self._report, args=word, name="stalled", daemon=True).start()
                next_word_s *= 2


def _serve(
    open_stream: Callable[[], Iterator[RawBatch]],
    asked: SimpleQueue[object],
    given: SimpleQueue[tuple[Any, BaseException | None]],
) -> None:
    try:
        stream = open_stream()
        while asked.get() is not _OVER:  # put by the finalizer of the stream's owner
            given.put((next(stream), None))
    except BaseException as error:  # raised again in the thread that waits for the batch
        given.put((None, error))

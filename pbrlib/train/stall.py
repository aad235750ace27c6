"""Patience with the input: who waits for a batch says so, and gives up when it has waited too long."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from pbrlib.data.draws.batch import RawBatch

TELL_AFTER_S = 60.0
"""A wait of this length is told, and each time it has doubled."""

_OVER = object()


class StalledError(Exception):
    """The input has not come in time; a new attempt begins a stream anew."""


class PatientStream(Iterator[RawBatch]):
    """The batches of a stream, opened and asked in a thread of its own: no wait for one is without an end.

    ``step`` is the step whose batch was asked for last.

    Args:
        open_stream: Begins the batches.
        first_step: The step of its first batch.
        limit_s: How long a batch may take.
        tell: Told of a long wait: step, the seconds until now, what the batch hangs on.
        waits_for: What a step's batch hangs on.
        tell_after_s: How long a wait is not worth a word.
    """

    def __init__(
        self,
        open_stream: Callable[[], Iterator[RawBatch]],
        *,
        first_step: int,
        limit_s: float,
        tell: Callable[[int, float, str], None],
        waits_for: Callable[[int], str],
        tell_after_s: float = TELL_AFTER_S,
    ) -> None:
        self.step = first_step - 1
        self._limit_s, self._tell, self._waits_for, self._first_s = limit_s, tell, waits_for, tell_after_s
        self._asked: SimpleQueue[object] = SimpleQueue()
        self._given: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._ended: BaseException | None = None
        # A daemon: a stream that never answers must not keep the process.
        threading.Thread(
            target=_serve, args=(open_stream, self._asked, self._given), name="input", daemon=True
        ).start()
        weakref.finalize(self, self._asked.put, _OVER)

    def __next__(self) -> RawBatch:
        """The next batch; raises StalledError when it does not come in time, else what the stream raises."""
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
        began, next_word_s = time.monotonic(), self._first_s
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
                # A thread of its own: a run's folder may be as far away as its input.
                threading.Thread(target=self._tell, args=word, name="stalled", daemon=True).start()
                next_word_s *= 2


def _serve(
    open_stream: Callable[[], Iterator[RawBatch]],
    asked: SimpleQueue[object],
    given: SimpleQueue[tuple[Any, BaseException | None]],
) -> None:
    try:
        stream = open_stream()
        while asked.get() is not _OVER:  # its owner, when it goes, says so
            given.put((next(stream), None))
    except BaseException as error:  # it is raised where the batch is waited for
        given.put((None, error))

"""Ctrl-C and the signals that end a process, so that what was done until then is recorded."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopError(BaseException):
    """A signal asks the process to end; no handler of ordinary errors catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """Raises StopError at the first signal to end in its block, and ignores further ones.

    After ``hold`` none is raised. Outside of the main thread nothing is changed: Python runs handlers there.
    """

    def __init__(self) -> None:
        self._received = False
        self._held = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # What the caller ignores, as nohup does, stays ignored.
            heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._receive) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Lets what follows in the block come to its end."""
        self._held = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received or self._held:
            return
        self._received = True
        raise StopError(number)

"""Turns Ctrl-C and other termination signals into an error, so that the report can still be written."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopError(BaseException):
    """A termination signal was received; ``except Exception`` does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """Raises StopError at the first termination signal in its block, and ignores further signals.

    After ``ignore_signals`` no signal raises. Outside of the main thread the class has no effect, since
    Python runs signal handlers in the main thread only.
    """

    def __init__(self) -> None:
        self._received = False
        self._ignoring = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # Signals that the caller ignores, for example under nohup, stay ignored.
            handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._receive) for number in handled}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore_signals(self) -> None:
        """Ignore termination signals in the rest of the block."""
        self._ignoring = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received or self._ignoring:
            return
        self._received = True
        raise StopError(number)

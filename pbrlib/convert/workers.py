"""Runs codecs in child processes: if a codec crashes, only the file that it processed fails.

Each thread of a small pool owns a child and exchanges messages with it over a pipe. A child that crashes or
hangs is replaced, and only its current call fails; a ``ProcessPoolExecutor`` would fail all running calls
without naming the cause. Children do not import torch, since that would slow their start.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self, TypeVar

from pbrlib.errors import DataError

T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")  # forking a process that runs torch's threads can deadlock
_JOIN_TIMEOUT_S = 5.0


class Workers:
    """A pool of child processes that are replaced after a crash; use it as a context manager.

    Args:
        num_workers: Number of children.
        timeout_s: Seconds after which a call counts as hung and its child is killed.
    """

    def __init__(self, num_workers: int, *, timeout_s: float = 300.0) -> None:
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="codec")
        self._local = threading.local()
        self._children: set[_Child] = set()
        self._closed = False
        self._lock = threading.Lock()  # guards _children and _closed, so that no child starts after exit

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=error is None, cancel_futures=True)
        with self._lock:
            self._closed = True
            for child in self._children:
                child.kill()
        self._threads.shutdown()  # threads of killed children return at once and close their pipes
        for child in self._children:
            child.close()

    def submit(self, place: str, function: Callable[..., T], *args: Any) -> Future[T]:
        """Call ``function(*args)`` in a child.

        Args:
            place: Name of the file, for the error message if the child crashes.
            function: A function of a module that the child can import.
            args: Arguments that can be pickled.

        Returns:
            A future; it raises the error of the function, or DataError if the child crashed or hung.
        """
        return self._threads.submit(self._call, place, function, args)

    def _call(self, place: str, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        child: _Child | None = getattr(self._local, "child", None)
        if child is None:
            child = self._local.child = self._start(place)
        try:
            succeeded, answer = child.call(function, args, timeout_s=self._timeout_s)
        except _ChildLostError as reason:
            self._local.child = None
            with self._lock:
                self._children.discard(child)
            child.close()
            raise DataError(f"{place}: the codec {reason}. The file is left out; save it again.") from None
        if not succeeded:
            raise answer
        result: T = answer
        return result

    def _start(self, place: str) -> _Child:
        with self._lock:
            if self._closed:
                raise DataError(f"{place}: not started, since the conversion ended. Convert again.")
            child = _Child()
            self._children.add(child)
            return child


class _ChildLostError(Exception):
    """A child crashed or was killed; the message completes "the codec ..."."""


class _Child:
    def __init__(self) -> None:
        self._pipe, child_pipe = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(child_pipe,), daemon=True)
        self._process.start()
        child_pipe.close()

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], *, timeout_s: float
    ) -> tuple[bool, Any]:
        timed_out = threading.Event()

        def end() -> None:
            timed_out.set()
            self.kill()  # also ends a blocked send and an incomplete answer

        limit = threading.Timer(timeout_s, end)
        limit.start()
        try:
            self._pipe.send((function, args))
            if self._pipe.poll(timeout_s):
                answer: tuple[bool, Any] = self._pipe.recv()
            else:
                timed_out.set()  # SIGKILL has no effect on a process that waits for a lost network share
        except (EOFError, OSError):
            if not timed_out.is_set():
                raise _ChildLostError(self._describe_exit()) from None
        finally:
            limit.cancel()
            limit.join()  # the timer may have killed a child just after it answered
        if timed_out.is_set():
            raise _ChildLostError(f"did not answer within {timeout_s:g} s")
        return answer

    def _describe_exit(self) -> str:
        """Return how the process ended."""
        self._process.join(_JOIN_TIMEOUT_S)
        code = self._process.exitcode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
        return f"ended its process {how}"

    def kill(self) -> None:
        """Kill the process, which ends the wait of its thread. Any thread may call this method."""
        self._process.kill()

    def close(self) -> None:
        """Kill the process and close its pipe. A single thread may call it, since it closes a descriptor."""
        self._process.kill()
        self._process.join(_JOIN_TIMEOUT_S)
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are expected and need no core dump
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, args = pipe.recv()
            try:
                answer = (True, function(*args))
            except Exception as error:  # sent to the parent, which raises it
                answer = (False, error)
            pipe.send(answer)

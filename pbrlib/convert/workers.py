"""Disposable child processes: a codec that kills its process costs one file, not the run.

Each thread of a small pool owns one child and talks to it over a pipe. A child that dies or hangs is
replaced, and only the call it was busy with fails; a ``ProcessPoolExecutor`` would fail every call in
flight and could not say whose fault it was. Children import no torch, so that they start in a moment.
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
_GOODBYE_S = 5.0


class Workers:
    """A pool of disposable children; use it as a context manager.

    Args:
        num_workers: children that work at once.
        timeout_s: seconds after which a call has hung and its child is killed.
    """

    def __init__(self, num_workers: int, *, timeout_s: float = 300.0) -> None:
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="codec")
        self._local = threading.local()
        self._children: set[_Child] = set()
        self._closed = False
        self._lock = threading.Lock()  # over both above: no child starts once the pool is left

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
        self._threads.shutdown()  # a thread whose child is gone comes back at once, and closes what it owned
        for child in self._children:
            child.close()

    def submit(self, place: str, function: Callable[..., T], *args: Any) -> Future[T]:
        """Calls ``function(*args)`` in a child.

        Args:
            place: what is worked on, named in the error if the child dies.
            function: a function of a module that the child can import.
            args: what pickles.

        Returns:
            A future; it raises what the function raised, or DataError if the child died or hung.
        """
        return self._threads.submit(self._call, place, function, args)

    def _call(self, place: str, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        child: _Child | None = getattr(self._local, "child", None)
        if child is None:
            child = self._local.child = self._start(place)
        try:
            succeeded, answer = child.call(function, args, timeout_s=self._timeout_s)
        except _ChildLostError as lost:
            self._local.child = None
            with self._lock:
                self._children.discard(child)
            child.close()
            raise DataError(f"{place}: the codec {lost}. The file is left out; save it again.") from None
        if not succeeded:
            raise answer
        result: T = answer
        return result

    def _start(self, place: str) -> _Child:
        with self._lock:
            if self._closed:
                raise DataError(f"{place}: not begun, since the run ended. Run it again.")
            child = _Child()
            self._children.add(child)
            return child


class _ChildLostError(Exception):
    """The child ended or was ended; the message completes "the codec ..."."""


class _Child:
    def __init__(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], *, timeout_s: float
    ) -> tuple[bool, Any]:
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()  # also ends a send that it does not read, and an answer that it does not finish

        limit = threading.Timer(timeout_s, end)
        limit.start()
        try:
            self._pipe.send((function, args))
            if self._pipe.poll(timeout_s):
                answer: tuple[bool, Any] = self._pipe.recv()
            else:
                late.set()  # not even SIGKILL ends it: it waits in the kernel for a share that is away
        except (EOFError, OSError):
            if not late.is_set():
                raise _ChildLostError(self._end()) from None
        finally:
            limit.cancel()
            limit.join()  # it may just have killed a child that did answer, which is of no more use
        if late.is_set():
            raise _ChildLostError(f"did not answer within {timeout_s:g} s")
        return answer

    def _end(self) -> str:
        """How the process ended by itself."""
        self._process.join(_GOODBYE_S)
        code = self._process.exitcode
        how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
        return f"ended its process {how}"

    def kill(self) -> None:
        """Ends the process; a thread that waits for its answer learns so. Any thread may call it."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process and gives back what it held. For one thread: a descriptor is closed once."""
        self._process.kill()
        self._process.join(_GOODBYE_S)
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C for all
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash that is expected leaves no dump behind
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, args = pipe.recv()
            try:
                answer = (True, function(*args))
            except Exception as error:  # it crosses to the parent, which raises it
                answer = (False, error)
            pipe.send(answer)

"""An S3 server (moto) on loopback with a proxy that injects faults."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Answer = Callable[[App, dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""Answers a request instead of the server; it may forward the request."""


def refusing(status: str, code: str) -> Answer:
    """Return an S3 error, such as ``500 Internal Server Error`` with the code ``InternalError``."""

    def answer(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
        start(status, [("Content-Length", str(len(body)))])
        return [body]

    return answer


BROKEN = refusing("500 Internal Server Error", "InternalError")
BUSY = refusing("503 Slow Down", "SlowDown")


def cut_after(length: int) -> Answer:
    """Return the response of the server, truncated after some bytes."""

    def answer(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return [b"".join(app(environ, start))[:length]]

    return answer


def hanging_up(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Close the connection without a response."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return []


def silent_for(seconds: float) -> Answer:
    """Return the response of the server after a delay."""

    def answer(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(seconds)
        return app(environ, start)

    return answer


def trickling(pieces: int, *, pause_s: float) -> Answer:
    """Return the response of the server in pieces, with pauses."""

    def answer(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        whole = b"".join(app(environ, start))
        step = max(len(whole) // pieces, 1)
        for first in range(0, len(whole), step):
            yield whole[first : first + step]
            time.sleep(pause_s)

    return answer


@dataclass
class _Fault:
    method: str
    key: str
    answer: Answer
    times: float
    met: int = 0


@dataclass
class FaultyServer:
    """A proxy that forwards requests to moto, except those with an injected fault."""

    app: App = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    _faults: list[_Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, place = environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        with self._lock:
            self.asked.append((method, place, environ.get("HTTP_RANGE", "")))
            fault = next((one for one in self._faults if _meets(one, method, place)), None)
            if fault is not None:
                fault.met += 1
        return self.app(environ, start) if fault is None else fault.answer(self.app, environ, start)

    @contextmanager
    def failing(
        self, method: str, key: str, answer: Answer, *, times: float = float("inf")
    ) -> Iterator[_Fault]:
        """Inside the block, answer up to ``times`` requests with ``key`` in the path by ``answer``."""
        fault = _Fault(method, key, answer, times)
        self._faults.append(fault)
        try:
            yield fault
        finally:
            self._faults.remove(fault)


def _meets(fault: _Fault, method: str, place: str) -> bool:
    return fault.met < fault.times and method == fault.method and fault.key in place


class _Quiet(WSGIRequestHandler):
    def log_request(self, *given: Any) -> None:
        """Do not log requests."""


@contextmanager
def s3_server() -> Iterator[FaultyServer]:
    """Start a server on a free port of loopback."""
    faulty = FaultyServer()
    server = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=_Quiet)
    faulty.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)

"""A job followed over connections that break, and over ones that stay open without a word."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import ray
import requests
from click.testing import CliRunner
from ray.job_submission import JobStatus, JobSubmissionClient

from pbrlib.errors import OutageError
from ray_jobs.cli import main
from ray_jobs.cluster import jobclient
from ray_jobs.cluster.jobclient import INTERRUPTED, JobClient, follow
from ray_jobs.submission import submit

# Ray's client says to aiohttp "as usual" in a way that aiohttp gives up.
pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")

SILENCE = ""
"""Instead of a chunk: nothing comes any more."""

PIECE = 2**19


class Output:
    """A cluster whose connections end: each time one follows, the output comes from its beginning."""

    def __init__(self, *chunks: Sequence[str], status: str = "SUCCEEDED", code: int | None = 0) -> None:
        self._chunks, self._end = list(chunks), (status, code)

    def get_address(self) -> str:
        return "http://127.0.0.1:8265"

    def get_job_info(self, job: str) -> SimpleNamespace:
        status, code = self._end if not self._chunks else ("RUNNING", None)
        return SimpleNamespace(status=JobStatus(status), driver_exit_code=code, message="the node died")

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        for chunk in self._chunks.pop(0):
            if chunk is SILENCE:
                await asyncio.sleep(1000)
            yield chunk
        if self._chunks:
            raise RuntimeError("closed")


def followed(client: Output) -> int:
    return follow(cast("JobSubmissionClient", client), "ladder-1")


def test_a_connection_that_is_cut_continues_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    assert followed(Output(["one\n", "tw"], ["one\ntwo\n", "three\n"])) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_a_job_that_is_quiet_is_followed_on_and_no_connection_counts_as_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobclient, "RECONNECT_AFTER_S", 0.05)
    quiet = [["one\n", SILENCE]] * (jobclient._RECONNECTS + 3)
    began = time.monotonic()
    assert followed(Output(*quiet, ["one\n", "two\n"])) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert time.monotonic() - began < 1 + 2 + 4, "it waited as if a connection had been cut"


def test_a_job_that_ended_unheard_is_asked_for_the_rest_of_its_output_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobclient, "RECONNECT_AFTER_S", 0.05)
    client = Output(["one\n", SILENCE], ["one\ntwo\n", SILENCE])
    states = chain(["RUNNING"], repeat("FAILED"))
    monkeypatch.setattr(
        client, "get_job_info", lambda _: SimpleNamespace(status=JobStatus(next(states)), driver_exit_code=3)
    )
    assert followed(client) == 3
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("FAILED", 2, 2), ("FAILED", 3, 3), ("FAILED", -9, 137), ("FAILED", None, 1), ("STOPPED", None, 143)],
)
def test_the_exit_code_is_that_of_the_command_as_a_shell_gives_it(
    status: str, code: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert followed(Output(["output\n"], status=status, code=code)) == expected
    said = capsys.readouterr().err
    assert ("did not end by itself: the node died" in said) == (expected == 1)
    assert ("same command again resumes" in said) == (expected == 143)


class Dashboard(ThreadingHTTPServer):
    """Answers so many requests; takes every later one and says nothing to it."""

    daemon_threads = True
    address_family = socket.AF_INET

    def __init__(self, *, answers: float) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.left, self.received, self.over = answers, 0, threading.Event()
        self.on_silence: Callable[[], None] = lambda: None
        # A server that reads slowly is to be felt by the sender.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)

    def __enter__(self) -> Dashboard:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    server: Dashboard

    def do_GET(self) -> None:
        self.server.left -= 1
        if self.server.left < 0:
            self.server.on_silence()
            self.server.over.wait()
            return
        for _ in range(0, left := int(self.headers.get("Content-Length", 0)), PIECE):
            self.server.received += len(self.rfile.read(min(PIECE, left - self.server.received)))
            time.sleep(0.05)
        content = json.dumps(
            {"ray_version": ray.__version__, "status": "RUNNING", "type": "SUBMISSION", "entrypoint": "pbr"}
        ).encode()
        self.send_response(404 if self.command == "GET" and "packages" in self.path else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_POST = do_GET  # noqa: N815  # the names are the library's

    def log_message(self, *_: object) -> None:
        pass


CONNECTED = 2
"""Requests of a client for the version, before it is asked for anything."""


@pytest.mark.parametrize("answers", range(CONNECTED, CONNECTED + 3), ids=["look", "upload", "start"])
def test_a_submission_that_gets_no_answer_ends_and_says_what_the_job_would_be(
    answers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobclient, "REQUEST_TIMEOUT_S", 0.5)
    with (
        Dashboard(answers=answers) as dashboard,
        pytest.raises(OutageError, match=r"no answer of the dashboard in 0\.5 s; .* its id is ladder-2"),
    ):
        submit(JobClient(dashboard.url), ["runs"], working_dir=tmp_path, metadata={"job_name": "ladder"})


@pytest.mark.parametrize("answers", [0, CONNECTED, CONNECTED + 1], ids=["version", "state", "output"])
def test_following_ends_with_2_and_a_sentence_where_a_dashboard_falls_silent(
    answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobclient, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(jobclient, "RECONNECT_AFTER_S", 0.5)
    with Dashboard(answers=answers) as dashboard:
        done = CliRunner().invoke(main, ["submit", "--address", dashboard.url, "--follow", "ladder-1"])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"pbr: {dashboard.url}: got no answer of the dashboard in 0.5 s;")


@pytest.mark.parametrize("answers", [CONNECTED, CONNECTED + 1], ids=["state", "output"])
def test_ctrl_c_ends_the_following_of_a_silent_dashboard_at_once(answers: int) -> None:
    with Dashboard(answers=answers) as dashboard:
        client = JobClient(dashboard.url)
        dashboard.on_silence = lambda: os.kill(os.getpid(), signal.SIGINT)
        began = time.monotonic()
        assert follow(client, "ladder-1") == INTERRUPTED
    assert time.monotonic() - began < jobclient.REQUEST_TIMEOUT_S / 2


def test_an_upload_of_which_nothing_more_is_taken_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobclient, "REQUEST_TIMEOUT_S", 0.5)
    with Dashboard(answers=CONNECTED) as dashboard:
        client = JobClient(dashboard.url)
        with pytest.raises(OutageError, match=r"no answer of the dashboard in 0\.5 s"):
            client._do_request("PUT", "/api/packages/gcs/large.zip", data=bytes(2000 * PIECE))


def test_a_dashboard_that_refuses_is_not_called_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with Dashboard(answers=CONNECTED) as dashboard:
        client = JobClient(dashboard.url)
    with pytest.raises(requests.ConnectionError):
        client._do_request("GET", "/api/version")


def test_an_upload_may_take_longer_than_a_dashboard_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobclient, "REQUEST_TIMEOUT_S", 1.5)
    with Dashboard(answers=math.inf) as dashboard:
        client = JobClient(dashboard.url)
        began = time.monotonic()
        response = client._do_request("PUT", "/api/packages/gcs/large.zip", data=bytes(60 * PIECE))
    assert response.status_code == 200
    assert dashboard.received == 60 * PIECE
    assert time.monotonic() - began > jobclient.REQUEST_TIMEOUT_S

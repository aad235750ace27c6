"""Query and follow a job on a cluster; every wait has a time limit."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from typing import Any

import aiohttp
import click
import requests
from ray.job_submission import JobDetails, JobSubmissionClient

from pbrlib.errors import ConfigError, OutageError, first_line

REQUEST_TIMEOUT_S = 120.0
"""Time limit of a request to the dashboard, which needs tens of seconds while a cluster starts."""

RECONNECT_AFTER_S = 600.0
"""Seconds without output after which the state of a job is queried and the connection is made again.

The cluster keeps the old connection until the job writes again, so the time is long.
"""

FAILED, INTERRUPTED, STOPPED = 1, 130, 143
"""Exit codes if the command has none: Ray lost it, Ctrl-C here, or ``ray job stop``."""

_RECONNECTS = 5


class JobClient(JobSubmissionClient):
    """Ray's client with a time limit for requests, which otherwise wait forever for a broken tunnel."""

    def _do_request(
        self, method: str, endpoint: str, *, data: bytes | None = None, **more: Any
    ) -> requests.Response:
        # The limit applies to each piece of a stream, but to bytes as a whole.
        body: Any = None if data is None else io.BytesIO(data)
        try:
            return super()._do_request(method, endpoint, data=body, timeout=REQUEST_TIMEOUT_S, **more)
        except (requests.Timeout, requests.ConnectionError) as error:
            if not _is_timeout(error):
                raise
            raise OutageError(
                f"{self.get_address()}: got no answer of the dashboard in {REQUEST_TIMEOUT_S:g} s; "
                "expected one. Check the tunnel. Jobs continue without it; `pbr submit --follow ID` follows "
                "one again."
            ) from error


def _is_timeout(error: requests.RequestException) -> bool:
    """Return whether a time limit ended a request; urllib3 reports a lost connection if it was sending."""
    one: BaseException | None = error
    while one is not None and not isinstance(one, requests.Timeout | TimeoutError):
        one = one.__cause__ or one.__context__
    return one is not None


def follow(client: JobSubmissionClient, job: str) -> int:
    """Show the output of a job from the beginning until the job ends; return its exit code.

    Ctrl-C stops following; the job continues.
    """
    try:
        _show_output(client, job)
        return _exit_code(client, job)
    except KeyboardInterrupt:
        address = client.get_address()
        click.echo(
            f"\npbr: {job} continues.\n"
            f"  follow it:   pbr submit --address {address} --follow {job}\n"
            f"  show state:  ray job status --address {address} {job}\n"
            f"  stop it:     ray job stop --address {address} {job}",
            err=True,
        )
        return INTERRUPTED


def _show_output(client: JobSubmissionClient, job: str) -> None:
    """Write the output; after a lost or quiet connection, continue over a new one where it stopped."""
    output, cuts = _Output(), 0
    while cuts <= _RECONNECTS:
        shown, ended = output.shown, _has_ended(client, job)
        try:
            # Other requests are made outside of the event loop, where Ctrl-C can interrupt them.
            asyncio.run(output.show(client, job))
        except TimeoutError:
            if ended:
                return
            cuts = 0
            continue
        except (OSError, RuntimeError, aiohttp.ClientError):
            pass  # The state of the job is queried next.
        if ended or _has_ended(client, job):
            return
        if output.shown > shown:
            cuts = 0
        time.sleep(2.0**cuts)
        cuts += 1
    raise ConfigError(
        f"{job}: got {cuts} lost connections in a row; expected its output. The job continues. Follow it "
        f"again with `pbr submit --follow {job}`."
    )


class _Output:
    """The output of a job. Each connection sends it from the beginning; every part is shown once."""

    def __init__(self) -> None:
        self.shown = 0

    async def show(self, client: JobSubmissionClient, job: str) -> None:
        """Write new output from one connection; raise TimeoutError after a long time without output."""
        now, passed = asyncio.get_running_loop().time, 0
        async with asyncio.timeout(RECONNECT_AFTER_S) as limit:
            async for text in client.tail_job_logs(job):
                limit.reschedule(now() + RECONNECT_AFTER_S)
                new = text[max(self.shown - passed, 0) :]
                passed += len(text)
                if new:
                    self.shown = passed
                    sys.stdout.write(new)
                    sys.stdout.flush()


def _has_ended(client: JobSubmissionClient, job: str) -> bool:
    return _details(client, job).status.is_terminal()


def _details(client: JobSubmissionClient, job: str) -> JobDetails:
    """Return the details of a job; raise ConfigError for an unknown id."""
    try:
        return client.get_job_info(job)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{job}: got no job of this id from the cluster at {client.get_address()} ({first_line(error)}); "
            "expected one. `ray job list` shows all jobs. The command of a lost job can be submitted again: "
            "it resumes."
        ) from error


def _exit_code(client: JobSubmissionClient, job: str) -> int:
    """Return the exit code of an ended job's command, as a shell would."""
    details = _details(client, job)
    code = details.driver_exit_code
    if details.status == "STOPPED":
        click.echo(f"pbr: job {job} was stopped. The same command again resumes it.", err=True)
        return STOPPED
    if code is None:
        click.echo(f"pbr: job {job} did not end by itself: {details.message}", err=True)
        return FAILED
    return code if code >= 0 else 128 - code

"""A job of a cluster as seen from here: asked for and followed, and nothing waited for without a limit."""

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

ANSWER_S = 120.0
"""How long the dashboard may keep silent over a request; it takes tens of seconds while a cluster starts."""

QUIET_S = 600.0
"""How long a job may write nothing before its state is asked for and the connection to its output made anew.

The cluster keeps the old connection until the job writes again, so that this is not short.
"""

FAILED, INTERRUPTED, STOPPED = 1, 130, 143
"""Exit codes where the command itself gave none: Ray lost it, Ctrl-C here, ``ray job stop`` anywhere."""

_RECONNECTS = 5


class JobClient(JobSubmissionClient):
    """Ray's client, whose requests wait for ever for a tunnel that takes them and has no other end."""

    def _do_request(
        self, method: str, endpoint: str, *, data: bytes | None = None, **more: Any
    ) -> requests.Response:
        # Of a stream each piece has the limit for itself; bytes would have to be uploaded within it.
        body: Any = None if data is None else io.BytesIO(data)
        try:
            return super()._do_request(method, endpoint, data=body, timeout=ANSWER_S, **more)
        except (requests.Timeout, requests.ConnectionError) as error:
            if not _is_silence(error):
                raise
            raise OutageError(
                f"{self.get_address()}: the dashboard has been silent for {ANSWER_S:g} s. Is the tunnel to "
                "it still up? Jobs go on without it; `pbr submit --follow ID` comes back to one."
            ) from error


def _is_silence(error: requests.RequestException) -> bool:
    """Whether a limit has ended a request; while something is sent, urllib3 calls that a lost connection."""
    one: BaseException | None = error
    while one is not None and not isinstance(one, requests.Timeout | TimeoutError):
        one = one.__cause__ or one.__context__
    return one is not None


def follow(client: JobSubmissionClient, job: str) -> int:
    """Shows the output of a job from its beginning until it ends; returns its exit code.

    Ctrl-C ends the following, not the job.
    """
    try:
        _show_output(client, job)
        return _exit_code(client, job)
    except KeyboardInterrupt:
        address = client.get_address()
        click.echo(
            f"\npbr: {job} goes on.\n"
            f"  back to it:  pbr submit --address {address} --follow {job}\n"
            f"  its state:   ray job status --address {address} {job}\n"
            f"  end it:      ray job stop --address {address} {job}",
            err=True,
        )
        return INTERRUPTED


def _show_output(client: JobSubmissionClient, job: str) -> None:
    """Writes the output; a connection that is cut or quiet is made again and continues where it stopped."""
    output, cuts = _Output(), 0
    while cuts <= _RECONNECTS:
        shown, ended = output.shown, _has_ended(client, job)
        try:
            # Only this: Ctrl-C would not interrupt a request that is made within the loop of events.
            asyncio.run(output.show(client, job))
        except TimeoutError:
            if ended:
                return
            cuts = 0
            continue
        except (OSError, RuntimeError, aiohttp.ClientError):
            pass  # Whether the job is at its end, or known at all, is asked next.
        if ended or _has_ended(client, job):
            return
        if output.shown > shown:
            cuts = 0
        time.sleep(2.0**cuts)
        cuts += 1
    raise ConfigError(
        f"{job}: the connection to its output was cut {cuts} times without a word between; the job goes on. "
        f"Come back with `pbr submit --follow {job}`."
    )


class _Output:
    """What a job has written. Each connection brings it from its beginning; it is shown once."""

    def __init__(self) -> None:
        self.shown = 0

    async def show(self, client: JobSubmissionClient, job: str) -> None:
        """Writes what is new over one connection; raises TimeoutError when it is quiet for too long."""
        now, passed = asyncio.get_running_loop().time, 0
        async with asyncio.timeout(QUIET_S) as limit:
            async for text in client.tail_job_logs(job):
                limit.reschedule(now() + QUIET_S)
                new = text[max(self.shown - passed, 0) :]
                passed += len(text)
                if new:
                    self.shown = passed
                    sys.stdout.write(new)
                    sys.stdout.flush()


def _has_ended(client: JobSubmissionClient, job: str) -> bool:
    return _details(client, job).status.is_terminal()


def _details(client: JobSubmissionClient, job: str) -> JobDetails:
    """What the cluster knows of a job; raises ConfigError when it knows none of this id."""
    try:
        return client.get_job_info(job)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{job}: the cluster at {client.get_address()} does not know this job "
            f"({first_line(error)}). `ray job list` shows those that it knows. The command of a job that is "
            "lost can be submitted again: it resumes."
        ) from error


def _exit_code(client: JobSubmissionClient, job: str) -> int:
    """The exit code of an ended job's command, as a shell would give it."""
    details = _details(client, job)
    code = details.driver_exit_code
    if details.status == "STOPPED":
        click.echo(f"pbr: job {job} was stopped. The same command again resumes it.", err=True)
        return STOPPED
    if code is None:
        click.echo(f"pbr: job {job} did not end by itself: {details.message}", err=True)
        return FAILED
    return code if code >= 0 else 128 - code

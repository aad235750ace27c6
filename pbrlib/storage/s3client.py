"""The client of S3 that the whole product uses, and its patience.

boto3's own retries end after three seconds, or when a process has made three dozen of them. Here what fails
because the server is busy, broken or out of reach is sent again for a good minute. Credentials come from
boto3's standard chain alone (environment, profile, instance role), the address of another server from
``AWS_ENDPOINT_URL``; ``AWS_MAX_ATTEMPTS`` changes how often anything is tried.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from pbrlib.errors import ConfigError, DataError, OutageError

ATTEMPTS = 12
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 20.0
"""Between them 0.25, 0.5, 1, 2, ... 16, 20, 20, 20, 20 seconds, or down to 0.6 of that: 67 to 112 in all."""
WARN_FROM_S = 4.0
"""A longer pause is told, so that nobody takes it for a hang."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
"""A server that takes longer to say anything is asked again."""

_BUSY = ("SlowDown", "RequestTimeout", "ThrottlingException", "RequestLimitExceeded", "InternalError")
_USERINFO = re.compile(r"//[^/@\s\"']*@")
_client_lock = threading.Lock()
_log = logging.getLogger(__name__)


def format_s3_error(error: Exception) -> str:
    """The text of an error, without the credentials that may stand before an @ in the address of a server."""
    return _USERINFO.sub("//", str(error)).rstrip(".")


def client() -> Any:
    """The client of this process, for the server that its environment names; raises ConfigError."""
    max_attempts()
    # boto3 makes clients in a way that is not thread-safe; the clients themselves are.
    with _client_lock:
        return _client_for(os.environ.get("AWS_ENDPOINT_URL"))


@cache
def _client_for(endpoint: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=32,
    )
    made = boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)
    made.meta.events.register("needs-retry.s3", _pause_before_retry)
    return made


def max_attempts() -> int:
    """How often a request is sent at most; raises ConfigError where ``AWS_MAX_ATTEMPTS`` is no number."""
    given = os.environ.get("AWS_MAX_ATTEMPTS", str(ATTEMPTS))
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"AWS_MAX_ATTEMPTS: got {given}; expected a number of attempts. Use 1 or more.")
    return int(given)


def _pause_before_retry(
    attempts: int, operation: Any, response: Any, caught_exception: Exception | None, **_: Any
) -> float | None:
    """Asked by botocore after each attempt: seconds until the next, None if there is none to be."""
    if response is not None:
        reason = str(response[1].get("Error", {}).get("Code"))
        is_transient = _is_transient(response[1])
    else:
        reason = format_s3_error(caught_exception) if caught_exception else "no answer"
        is_transient = error_type(caught_exception) is OutageError
    if not is_transient or attempts >= max_attempts():
        return None
    return pause_s(attempts, what=f"S3, {operation.name}: {reason}")


def pause_s(attempt: int, *, what: str) -> float:
    """Seconds from an attempt (1, 2, ...) to the next; random, so that a cluster does not ask all at once."""
    longest: float = min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S)
    pause = random.uniform(0.6, 1.0) * longest  # noqa: S311
    if pause > WARN_FROM_S:
        _log.warning("%s; attempt %d of %d, the next in %.0f s", what, attempt, max_attempts(), pause)
    return pause


def error_type(error: BaseException | None) -> type[DataError]:
    """OutageError where the server was busy, broken or out of reach; DataError where it will refuse again."""
    from botocore import exceptions as boto

    # boto3's managed uploads put their own error around what stopped them.
    while error is not None:
        if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
            return OutageError
        if isinstance(error, boto.ClientError):
            return OutageError if _is_transient(error.response) else DataError
        error = error.__cause__ or error.__context__
    return DataError


def _is_transient(answer: Mapping[str, Any]) -> bool:
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or status == 429 or answer.get("Error", {}).get("Code") in _BUSY

"""The S3 client of the product, and its retries.

The retries of boto3 end after three seconds, or after about 36 retries of a process. Here a request is
repeated for more than a minute if the server is busy, broken or unreachable. Credentials come from boto3's
standard chain (environment, profile, instance role). ``AWS_ENDPOINT_URL`` gives the address of another
server, ``AWS_MAX_ATTEMPTS`` the number of attempts.
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
"""The pauses are 0.25, 0.5, 1, 2, ... 16, 20, 20, 20, 20 s, times 0.6 to 1: a total of 67 to 112 s."""
WARN_FROM_S = 4.0
"""A longer pause is logged, so that users do not mistake it for a hang."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0
"""A request without a response in this time is repeated."""

_BUSY = ("SlowDown", "RequestTimeout", "ThrottlingException", "RequestLimitExceeded", "InternalError")
_USERINFO = re.compile(r"//[^/@\s\"']*@")
_client_lock = threading.Lock()
_log = logging.getLogger(__name__)


def format_s3_error(error: Exception) -> str:
    """Return the text of an error, without credentials in addresses (``//USER:PASSWORD@HOST``)."""
    return _USERINFO.sub("//", str(error)).rstrip(".")


def client() -> Any:
    """Return the client of this process, for the server of its environment; raises ConfigError."""
    max_attempts()
    # Creating a client is not thread-safe in boto3; using a client is.
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
    """Return the maximum attempts per request; raises ConfigError if ``AWS_MAX_ATTEMPTS`` is no number."""
    given = os.environ.get("AWS_MAX_ATTEMPTS", str(ATTEMPTS))
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"AWS_MAX_ATTEMPTS: got {given}; expected a number of attempts. Use 1 or more.")
    return int(given)


def _pause_before_retry(
    attempts: int, operation: Any, response: Any, caught_exception: Exception | None, **_: Any
) -> float | None:
    """Return the seconds to the next attempt, or None to give up; botocore calls this after each attempt."""
    if response is not None:
        reason = str(response[1].get("Error", {}).get("Code"))
        is_transient = _is_transient(response[1])
    else:
        reason = format_s3_error(caught_exception) if caught_exception else "no response"
        is_transient = error_type(caught_exception) is OutageError
    if not is_transient or attempts >= max_attempts():
        return None
    return pause_s(attempts, what=f"S3, {operation.name}: {reason}")


def pause_s(attempt: int, *, what: str) -> float:
    """Return the seconds from an attempt (1, 2, ...) to the next.

    The pause is random, so that the processes of a cluster do not repeat their requests at the same time.
    """
    longest: float = min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S)
    pause = random.uniform(0.6, 1.0) * longest  # noqa: S311
    if pause > WARN_FROM_S:
        _log.warning("%s; attempt %d of %d, the next in %.0f s", what, attempt, max_attempts(), pause)
    return pause


def error_type(error: BaseException | None) -> type[DataError]:
    """Return OutageError if the server was busy, broken or unreachable; DataError if it will refuse again."""
    from botocore import exceptions as boto

    # Managed uploads of boto3 wrap the original error.
    while error is not None:
        if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
            return OutageError
        if isinstance(error, boto.ClientError):
            return OutageError if _is_transient(error.response) else DataError
        error = error.__cause__ or error.__context__
    return DataError


def _is_transient(response: Mapping[str, Any]) -> bool:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or status == 429 or response.get("Error", {}).get("Code") in _BUSY

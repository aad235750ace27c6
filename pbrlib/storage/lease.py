"""A lease on S3: an object that its holder renews, and that another process may take after it expires.

Its age is computed from the clock of the server only. Every put is conditional, so that only one of two
processes gets the lease.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pbrlib.errors import ConfigError, DataError
from pbrlib.storage import s3reading, s3writing

LEASE_S = 60.0
"""A lease expires if it is not renewed for this time."""
RENEW_S = 10.0
_ATTEMPTS = 10
"""Number of attempts to take a free lease; a put is refused if another process was faster."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Holder:
    owner: str
    etag: str
    age_s: float


@contextmanager
def hold_lease(place: Path, *, owner: str, remedy: str) -> Iterator[None]:
    """Hold the lease of the object at ``place`` while the block runs.

    If another process renews the lease, the error is raised at once; an unrenewed lease is taken when it
    expires.

    Raises:
        ConfigError: Another process holds the lease; the message ends with ``remedy``.
        DataError: S3 cannot be used, or the lease was lost and the block has been interrupted.
    """
    address = str(place)
    lease = _Lease(address, owner=owner)
    lease.take(remedy=remedy)
    _enable_interrupts()
    try:
        with lease.renewed():
            yield
    except KeyboardInterrupt as interrupt:
        if lease.lost:
            raise DataError(
                f"{address}: another command has taken the lease, since this command could not renew it for "
                f"{LEASE_S:.0f} s. This command was stopped; the files that it had written remain."
            ) from interrupt
        raise


def _enable_interrupts() -> None:
    """Enable SIGINT, which ends the command if the lease is lost; shells disable it in the background."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Lease:
    def __init__(self, address: str, *, owner: str) -> None:
        self._address, self._owner, self._token = address, owner, secrets.token_hex(8)
        self._etag: str | None = None
        self._puts = 0
        self.lost = False

    def take(self, *, remedy: str) -> None:
        """Take the lease when it is free; raises ConfigError if another process renews it."""
        first: _Holder | None = None
        refused = 0
        while refused < _ATTEMPTS:
            held = self._holder()
            if held is None or held.age_s > LEASE_S:
                if self._put(None if held is None else held.etag):
                    return
                refused += 1
                time.sleep(min(RENEW_S, 0.1 * 2**refused))
                continue
            first = first or held
            if held.etag != first.etag:
                raise ConfigError(f"{self._address}: {held.owner} is writing there. {remedy}")
            _log.warning(
                "%s: %s renewed the lease %.0f s ago; it is taken over in %.0f s unless renewed again",
                self._address,
                held.owner,
                held.age_s,
                LEASE_S - held.age_s,
            )
            time.sleep(min(RENEW_S, LEASE_S - held.age_s + 1.0))
        raise DataError(
            f"{self._address}: S3 has refused {_ATTEMPTS} puts of the lease, although no process holds it; "
            "expected a server with conditional puts (If-None-Match and If-Match). Use another server."
        )

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease while the block runs, and release it at the end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=LEASE_S)
            with suppress(DataError):  # without renewal, the lease expires in a minute
                if self._is_ours():
                    s3writing.remove([self._address])

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(timeout=RENEW_S):
            try:
                if not self._put(self._etag) and not ended.is_set():
                    self.lost = True
                    os.kill(os.getpid(), signal.SIGINT)
                    return
            except DataError as error:
                _log.warning("%s: not renewed (%s)", self._address, error)

    def _put(self, etag: str | None) -> bool:
        """Put the lease; return whether it is ours, even if the response of a put was lost."""
        self._puts += 1  # an etag is a hash of the content, which has to change
        content = json.dumps({"owner": self._owner, "token": self._token, "puts": self._puts}).encode()
        put = s3writing.write_if(self._address, content, etag=etag)
        if put is None:
            (there, found, _) = s3reading.read_dated(self._address) or (b"", "", 0.0)
            put = found if self._token.encode() in there else None
        self._etag = put or self._etag
        return put is not None

    def _is_ours(self) -> bool:
        """Read the holder from S3, since another process may have taken it during a suspension."""
        found = s3reading.read_dated(self._address)
        return found is not None and self._token.encode() in found[0]

    def _holder(self) -> _Holder | None:
        if (found := s3reading.read_dated(self._address)) is None:
            return None
        content, etag, age_s = found
        try:
            owner = str(json.loads(content)["owner"])
        except (ValueError, KeyError, TypeError):
            owner = "another command"
        return _Holder(owner, etag, age_s)

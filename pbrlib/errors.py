"""The errors a user can cause; the command line prints them without a traceback and exits with 2."""

from __future__ import annotations

import errno


class PbrError(Exception):
    """An expected error; its message has the place, the problem and the remedy."""


class ConfigError(PbrError):
    """A curriculum, runtime file or option that cannot be run as written."""


class DataError(PbrError):
    """A texture, shard or shard set that cannot be read, or does not contain what is requested."""


class DamageError(DataError):
    """Bytes of a shard that are missing or differ from those that were written; reading again does not help.

    ``material`` is the id of the first damaged material, if it is known.
    """

    def __init__(self, message: str, *, material: str | None = None) -> None:
        super().__init__(message)
        self.material = material


class OutageError(DataError):
    """A service that does not respond now; the input is correct, and a later attempt may succeed."""


class CheckpointError(PbrError):
    """A checkpoint that cannot be written, read, or does not fit the network."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose bytes are missing or changed; an earlier checkpoint may be intact."""


class NumericsError(PbrError):
    """A loss or gradient that is not finite."""


class RepeatedError(PbrError):
    """A failure that happened again at the same step, so that another attempt would fail too."""


class GateError(PbrError):
    """A phase that failed its gate; the input is correct, and the command line exits with 3."""


PERMANENT_ERRNOS = (None, errno.ENOENT, errno.EIO)
"""``errno`` of permanent OSErrors; None is that of Arrow's own errors. Other errors may be transient."""

_TRANSIENT_ERRNOS = frozenset(
    {
        *(errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE),
        *(errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EREMOTEIO),
    }
)
"""``errno`` of transient OSErrors, which a busy machine or an unreachable network share causes."""


def outage_or(kind: type[PbrError], error: BaseException) -> type[PbrError]:
    """Return OutageError if the error of a disk or a network share is transient, else ``kind``."""
    return OutageError if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS else kind


def printable(text: object) -> str:
    """Return a text with its control characters escaped, since names from foreign files may contain them."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error, or its type if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

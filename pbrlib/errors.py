"""The errors a user can cause; the command line prints them without a traceback and exits with 2."""

from __future__ import annotations

import errno


class PbrError(Exception):
    """What a user can act on: the message gives the place, what came and what to do."""


class ConfigError(PbrError):
    """A curriculum, runtime file or option that cannot be run as written."""


class DataError(PbrError):
    """A texture, shard or shard set that cannot be read, or does not hold what is asked of it."""


class DamageError(DataError):
    """Bytes of a shard that are not those that were written, or are gone: asking again brings no others.

    ``material`` is the id of the first material that they touch, where that is known.
    """

    def __init__(self, message: str, *, material: str | None = None) -> None:
        super().__init__(message)
        self.material = material


class OutageError(DataError):
    """A service that does not answer now: no mistake in the input, and a later attempt may find it well."""


class CheckpointError(PbrError):
    """A checkpoint that cannot be written, read, or does not fit the network."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose bytes are not those that were written, or are gone; an earlier one may be whole."""


class NumericsError(PbrError):
    """A loss or gradient that is not finite."""


class RepeatedError(PbrError):
    """A failure that came again where it came before, so that no further attempt would get past it."""


class GateError(PbrError):
    """A phase that did not pass its gate: no mistake in the input, and the command line exits with 3."""


FOR_GOOD = (None, errno.ENOENT, errno.EIO)
"""Numbers of an OSError that stays; Arrow's own have none, and other numbers may pass."""

_PASSING = frozenset(
    {
        *(errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE),
        *(errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EREMOTEIO),
    }
)
"""Numbers of an OSError that a busy machine or a share that is away gives, and not a later attempt."""


def outage_or(kind: type[PbrError], error: BaseException) -> type[PbrError]:
    """OutageError where what a disk or a share says may pass, else ``kind``."""
    return OutageError if isinstance(error, OSError) and error.errno in _PASSING else kind


def printable(text: object) -> str:
    """A text without characters that could steer a terminal: names come from files of others."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in str(text)
    )


def first_line(error: BaseException) -> str:
    """What an error of a library says first, or what it is when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

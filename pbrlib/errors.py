"""The errors a user can cause; the command line prints them without a traceback and exits with 2."""

from __future__ import annotations


class PbrError(Exception):
    """A mistake in the input: the message gives the place, what came and what to do."""


class ConfigError(PbrError):
    """A curriculum, runtime file or option that cannot be run as written."""


class DataError(PbrError):
    """A texture, shard or shard set that cannot be read, or does not hold what is asked of it."""


class OutageError(DataError):
    """A service that does not answer now: no mistake in the input, and a later attempt may find it well."""


class CheckpointError(PbrError):
    """A checkpoint that cannot be written, read, or does not fit the network."""


class NumericsError(PbrError):
    """A loss or gradient that is not finite."""


class RepeatedError(PbrError):
    """A failure that came again where it came before, so that no further attempt would get past it."""


class GateError(PbrError):
    """A phase that did not pass its gate: no mistake in the input, and the command line exits with 3."""

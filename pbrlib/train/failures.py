"""Decides which failures of an attempt are retried and which would only repeat.

This module imports neither Ray nor torch; the caller passes the causes of the failures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pbrlib.errors import RepeatedError

Cause = Literal["mistake", "device memory", "host memory", "lost", "error", "outage", "peer"]
"""Why a rank ended, the most informative cause first.

Attributes:
    mistake: A PbrError: an input is wrong, so a retry cannot succeed.
    device memory: The device is out of memory.
    host memory: The node is out of memory, by Python's error or by Ray's memory monitor.
    lost: The process or its node disappeared without an error.
    error: Any other error of the program.
    outage: A service or the connection to it failed.
    peer: A collective failed because another rank ended.
"""

_ONCE_MORE = ("device memory", "host memory", "error")
"""Causes that are retried once: a second failure at the same step stops the phase."""

_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")

_REMEDIES = {
    "device memory": "Set batch_per_device lower in the runtime file, precision: bf16, or a smaller crop.",
    "host memory": (
        "Set fewer data_cpus, a smaller prefetch or fewer workers on a node in the runtime file, "
        "or use nodes with more memory."
    ),
    "error": "The traceback is in the worker's logs; `pbr debug-step` replays the step in one process.",
}


@dataclass(frozen=True)
class RankFailure:
    """How one rank ended.

    ``error`` is the name of the exception's class, ``step`` the step of the rank (None if unknown);
    ``preempted`` is true if its node was preempted.
    """

    cause: Cause
    error: str
    message: str
    rank: int | None = None
    step: int | None = None
    preempted: bool = False


class Failures:
    """The failed attempts of one command at one phase; a new command starts without them."""

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._known: set[tuple[object, ...]] = set()

    def judge(self, attempt: Sequence[RankFailure], *, committed: int) -> RepeatedError | None:
        """Return the error that stops the phase if the same failure occurred before at the same step.

        Args:
            attempt: The failures of its ranks.
            committed: The step of the last checkpoint.
        """
        failure = primary_failure(attempt)
        if failure.cause not in _ONCE_MORE:
            return None
        signature = _signature(failure, committed=committed)
        if signature not in self._known:
            self._known.add(signature)
            return None
        where = f"step {failure.step}" if failure.step is not None else f"after step {committed}"
        return RepeatedError(
            f"phase {self._phase}, {where}: {failure.error}: {failure.message}; it failed the same way when "
            f"tried again. {_REMEDIES[failure.cause]} The same command resumes from the last checkpoint."
        )


def primary_failure(attempt: Sequence[RankFailure]) -> RankFailure:
    """Return the failure of an attempt that most likely caused the others."""
    order = get_args(Cause)
    return min(
        attempt,
        key=lambda failure: (order.index(failure.cause), -1 if failure.rank is None else failure.rank),
    )


def _signature(failure: RankFailure, *, committed: int) -> tuple[object, ...]:
    """Return a key that is equal for repeated failures; addresses and sizes are removed from messages.

    Memory fills differently in every attempt, so two out-of-memory failures of a node before the next
    checkpoint count as the same.
    """
    if failure.cause == "host memory" or failure.step is None:
        place: tuple[str, int] = ("after", committed)
    else:
        place = ("at", failure.step)
    if failure.cause == "error":
        return (failure.error, _VARIES.sub("#", failure.message), *place)
    return (failure.cause, *place)

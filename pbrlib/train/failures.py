"""Which failures of an attempt are worth another one, and which would only come again.

It knows no Ray and imports no torch: what a worker or a node died of is told to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pbrlib.errors import RepeatedError

Cause = Literal["mistake", "device memory", "host memory", "lost", "error", "outage", "peer"]
"""What a rank ended of, the most telling first.

Attributes:
    mistake: A PbrError: what was given is wrong, and stays so.
    device memory: The device had no room.
    host memory: The node had none, by Python's error or by Ray's memory monitor.
    lost: The process or its node is gone, without a word.
    error: Any other error of the program.
    outage: A service, or the connection to it.
    peer: A collective ended because another rank did.
"""

_ONCE_MORE = ("device memory", "host memory", "error")
"""Retried once: at the same place a second time, they are no accident."""

_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")

_REMEDIES = {
    "device memory": "Set batch_per_device lower in the runtime file, precision: bf16, or a smaller crop.",
    "host memory": (
        "Set fewer data_cpus, a smaller prefetch or fewer workers on a node in the runtime file, "
        "or use nodes with more memory."
    ),
    "error": "The traceback stands in the worker's logs; `pbr debug-step` replays the step in one process.",
}


@dataclass(frozen=True)
class RankFailure:
    """How one rank ended.

    ``error`` is the name of its class, ``step`` the step that the rank was at, None where it left no word;
    ``preempted`` says that its node was taken away.
    """

    cause: Cause
    error: str
    message: str
    rank: int | None = None
    step: int | None = None
    preempted: bool = False


class Failures:
    """The failed attempts of one command at one phase; a command that is given again knows none of them."""

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._known: set[tuple[object, ...]] = set()

    def judge(self, attempt: Sequence[RankFailure], *, committed: int) -> RepeatedError | None:
        """What stops the phase, if this failure was met before at the same place.

        Args:
            attempt: How its ranks ended.
            committed: The step of the last checkpoint.
        """
        failure = most_telling_failure(attempt)
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


def most_telling_failure(attempt: Sequence[RankFailure]) -> RankFailure:
    """The failure that the others of an attempt follow from."""
    order = get_args(Cause)
    return min(attempt, key=lambda one: (order.index(one.cause), -1 if one.rank is None else one.rank))


def _signature(failure: RankFailure, *, committed: int) -> tuple[object, ...]:
    """What is equal in a failure that comes again: not its addresses and sizes.

    How memory fills differs from attempt to attempt, so a node that runs out of it twice before the next
    checkpoint has done so at the same place.
    """
    if failure.cause == "host memory" or failure.step is None:
        place: tuple[str, int] = ("after", committed)
    else:
        place = ("at", failure.step)
    if failure.cause == "error":
        return (failure.error, _VARIES.sub("#", failure.message), *place)
    return (failure.cause, *place)

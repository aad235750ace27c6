"""Runs the phases of a ladder: one wave after the other, the curricula of a wave in parallel."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from pbrlib.curriculum.ladder import Ladder
from pbrlib.curriculum.spec import Curriculum
from pbrlib.train.runtimespec import RuntimeSpec

Carry = Callable[[Curriculum, Iterator[str]], None]
"""A function that trains phases of a curriculum in order; an exception ends the ladder.

It takes the next phase when the one before is at its end: there may be none, after a failure elsewhere.
"""


def climb(
    ladder: Ladder, carry: Carry, *, phases: Mapping[str, Sequence[str]], room: Callable[[], int]
) -> None:
    """Train all phases: the phases of a curriculum in order, the waves one after the other.

    After a failure no further phase starts; phases that are running continue to their end. Then the first
    error is raised.

    Args:
        ladder: The curricula, in waves.
        carry: Called once per curriculum, in a thread of its own if several train in parallel.
        phases: The phases of each curriculum, by its name.
        room: Returns how many curricula may train in parallel; called when a wave of several starts.
    """
    for wave in ladder.waves:
        curricula = [entry.curriculum for entry in wave]
        most = room() if len(curricula) > 1 else 1
        if most > 1:
            _train_in_parallel(curricula, carry, phases=phases, most=most)
            continue
        for curriculum in curricula:
            carry(curriculum, iter(phases[curriculum.name]))


def _train_in_parallel(
    curricula: Sequence[Curriculum], carry: Carry, *, phases: Mapping[str, Sequence[str]], most: int
) -> None:
    places, failures = threading.Semaphore(most), list[BaseException]()

    def until_a_failure(names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if failures:
                return
            yield name

    def train(curriculum: Curriculum) -> None:
        with places:
            try:
                carry(curriculum, until_a_failure(phases[curriculum.name]))
            except BaseException as error:
                failures.append(error)

    # Daemon threads, so that an interrupted command does not wait for running phases.
    threads = [
        threading.Thread(target=train, args=(curriculum,), name=curriculum.name, daemon=True)
        for curriculum in curricula
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException as interrupt:
        failures.append(interrupt)
        raise
    if failures:
        raise failures[0]


def phases_on_nodes(nodes: Sequence[Mapping[str, float]], runtime: RuntimeSpec) -> int:
    """Return how many phases fit at once on nodes with these resources, ``CPU`` and ``GPU``.

    A worker needs its device and the CPUs of its data stream on the same node. The result is a lower bound,
    since a phase that cannot be placed fails after some minutes.
    """
    workers = 0
    for node in nodes:
        here = math.floor(node.get("CPU", 0.0) / runtime.cpus_of_worker)
        workers += min(here, math.floor(node.get("GPU", 0.0))) if runtime.device == "cuda" else here
    return workers // runtime.workers

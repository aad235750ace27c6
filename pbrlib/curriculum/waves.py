"""Runs the phases of a ladder: one wave after the other, the curricula of a wave in parallel."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from pbrlib.curriculum.ladder import Ladder
from pbrlib.curriculum.spec import Curriculum
from pbrlib.train.runtimespec import RuntimeSpec

TrainPhases = Callable[[Curriculum, Iterator[str]], None]
"""A function that trains phases of a curriculum in order; an exception ends the ladder.

It must take the next phase from the iterator only after the previous phase has ended: the iterator stops
after a failure of another curriculum.
"""


def train_waves(
    ladder: Ladder,
    train_phases: TrainPhases,
    *,
    phases: Mapping[str, Sequence[str]],
    capacity: Callable[[], int],
) -> None:
    """Train all phases: the phases of a curriculum in order, the waves one after the other.

    After a failure no further phase starts; phases that are running continue to their end. Then the first
    error is raised.

    Args:
        ladder: The curricula, in waves.
        train_phases: Called once per curriculum, in one thread each if several train in parallel.
        phases: The phases of each curriculum, by its name.
        capacity: Returns how many curricula may train in parallel; called when a wave with several
            curricula starts.
    """
    for wave in ladder.waves:
        curricula = [entry.curriculum for entry in wave]
        max_parallel = capacity() if len(curricula) > 1 else 1
        if max_parallel > 1:
            _train_in_parallel(curricula, train_phases, phases=phases, max_parallel=max_parallel)
            continue
        for curriculum in curricula:
            train_phases(curriculum, iter(phases[curriculum.name]))


def _train_in_parallel(
    curricula: Sequence[Curriculum],
    train_phases: TrainPhases,
    *,
    phases: Mapping[str, Sequence[str]],
    max_parallel: int,
) -> None:
    slots, failures = threading.Semaphore(max_parallel), list[BaseException]()

    def until_failure(names: Sequence[str]) -> Iterator[str]:
        for name in names:
            if failures:
                return
            yield name

    def train(curriculum: Curriculum) -> None:
        with slots:
            try:
                train_phases(curriculum, until_failure(phases[curriculum.name]))
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

    A worker needs its device and the CPUs of its data stream on the same node. The result is a lower bound:
    a phase that gets no resources fails after some minutes, so none may be started without them.
    """
    workers = 0
    for node in nodes:
        num_workers = math.floor(node.get("CPU", 0.0) / runtime.cpus_of_worker)
        workers += (
            min(num_workers, math.floor(node.get("GPU", 0.0))) if runtime.device == "cuda" else num_workers
        )
    return workers // runtime.workers

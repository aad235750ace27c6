"""The order in which the phases of a ladder train: wave after wave, the families of one side by side."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence

from pbrlib.curriculum.ladder import Ladder
from pbrlib.curriculum.spec import Curriculum
from pbrlib.train.runtimespec import RuntimeSpec

Carry = Callable[[Curriculum, str], None]
"""Carries out one phase of a curriculum to its end; whatever it raises ends the climb."""


def climb(
    ladder: Ladder, carry: Carry, *, phases: Mapping[str, Sequence[str]], room: Callable[[], int]
) -> None:
    """Carries out all phases: those of a family in their order, and a wave after the one before.

    Once a phase has failed no other begins; those that run beside it go on to their end. Then the first
    error is raised.

    Args:
        ladder: The families, in waves.
        carry: Called in a thread of its family's own where several families train at once, else in this one.
        phases: Of each family, by its name.
        room: How many families may train at once; asked when a wave of several begins.
    """
    for wave in ladder.waves:
        families = [family.curriculum for family in wave]
        most = room() if len(families) > 1 else 1
        if most > 1:
            _side_by_side(families, carry, phases=phases, most=most)
            continue
        for curriculum in families:
            for phase in phases[curriculum.name]:
                carry(curriculum, phase)


def _side_by_side(
    families: Sequence[Curriculum], carry: Carry, *, phases: Mapping[str, Sequence[str]], most: int
) -> None:
    places, failures = threading.Semaphore(most), list[BaseException]()

    def train(curriculum: Curriculum) -> None:
        with places:
            for phase in phases[curriculum.name]:
                if failures:
                    return
                try:
                    carry(curriculum, phase)
                except BaseException as error:
                    failures.append(error)

    # Daemons: an interrupt of the command does not wait for the phases that it ends.
    threads = [
        threading.Thread(target=train, args=(curriculum,), name=curriculum.name, daemon=True)
        for curriculum in families
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
    """How many phases nodes with these resources, ``CPU`` and ``GPU``, hold at once.

    A phase that finds no place fails after some minutes, so none is counted that might not find one: a worker
    lies on one node with its device and the CPUs of its data stream.
    """
    workers = 0
    for node in nodes:
        here = math.floor(node.get("CPU", 0.0) / runtime.cpus_of_worker)
        workers += min(here, math.floor(node.get("GPU", 0.0))) if runtime.device == "cuda" else here
    return workers // runtime.workers

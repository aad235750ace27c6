"""Measure the CPU cost of Ray's idle limit of one second on a node whose CPUs are held by a training.

    python benchmarks/idle_workers.py [--rounds 5] [--quick]

A worker that holds all CPUs of a local cluster takes a block of draws from its stream every 2.5 s, like a
training that is slower than its data. The object store holds a few blocks, so each block that is taken
starts one fetch. Ray keeps as many idle processes as CPUs are free, here none. With Ray's default limit of
one second each fetch starts a new process. The other way keeps idle processes for the minute that ``pbr``
sets. Both must deliver equal pixels.

Each run is a command with its own Ray. CPU time includes all its processes, also those that ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TypedDict

import ray
from delivery import FULL, NAMES, plan_of, write_materials
from timing import EQUAL_PRIORITY, Line, Spread, checksum, interleaved, show, tree_cpu_until

from pbrlib.data.shards.reader import ShardSet
from ray_jobs.cluster.session import ray_session
from ray_jobs.fit import datasets

CPUS, PACE_S = 4, 2.5
STORE_BYTES = 60 * 2**20
RAYS_MS, OURS_MS = 1_000, 60_000


class Cost(TypedDict):
    """The CPU and wall seconds of one run, and the checksums of its batches."""

    cpu_s: float
    wall_s: float
    checksums: list[int]


@ray.remote(num_cpus=CPUS)
class Worker:
    """An actor that takes blocks and sleeps, in place of a training on them."""

    def take(self, location: str, blocks: int) -> list[int]:
        """Return the checksums of all blocks."""
        datasets.STORE_BYTES = STORE_BYTES
        shards = ShardSet.open(location)
        draws = plan_of(shards, FULL, crop=64).table.slice(0, blocks * datasets.DRAWS_PER_BLOCK)
        found = []
        for batch in datasets.stream(
            draws, shards, maps=NAMES, batch=datasets.DRAWS_PER_BLOCK, cpus=1.0, prefetch=1
        ):
            found.append(checksum(batch.maps[name] for name in NAMES))
            time.sleep(PACE_S)
        return found


def run_here(location: str, *, blocks: int) -> Cost:
    """Measure a run with a Ray of this process, from the start of the stream to the last block."""
    with ray_session(num_cpus=CPUS):
        taken = Worker.remote().take.remote(location, blocks)
        began = time.perf_counter()
        cpu = tree_cpu_until(lambda: bool(ray.wait([taken], timeout=0)[0]), os.getpid())
        return Cost(cpu_s=cpu, wall_s=time.perf_counter() - began, checksums=ray.get(taken))


def run(location: str, *, blocks: int, patience_ms: int) -> Cost:
    """Measure a run in a new process, since Ray reads the limit when it starts."""
    environment = {**os.environ, "RAY_idle_worker_killing_time_threshold_ms": str(patience_ms)}
    command = [sys.executable, __file__, "--run", location, str(blocks)]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    cost: Cost = json.loads(ended.stdout.splitlines()[-1])
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="run one short round, as a test")
    parser.add_argument(
        "--run", nargs=2, metavar=("SET", "BLOCKS"), help="run once and print the result as JSON"
    )
    options = parser.parse_args()
    os.environ.update(EQUAL_PRIORITY)
    if options.run:
        location, blocks = options.run
        print(json.dumps(run_here(location, blocks=int(blocks))))
        return
    blocks, rounds = (4, 1) if options.quick else (20, options.rounds)
    with tempfile.TemporaryDirectory(prefix="idle-workers-") as folder:
        location = write_materials(Path(folder), count=12, size=512).location
        ways = {
            name: partial(run, location, blocks=blocks, patience_ms=patience)
            for name, patience in (("ended after 1 s", RAYS_MS), ("kept for 60 s", OURS_MS))
        }
        found = interleaved(ways, rounds=rounds, dropped=0)
    report(found)


def report(found: dict[str, list[Cost]]) -> None:
    if len({tuple(cost["checksums"]) for costs in found.values() for cost in costs}) != 1:
        sys.exit("idle_workers: got different pixels; expected equal pixels from both ways.")
    ended, kept = ([cost["cpu_s"] / cost["wall_s"] for cost in costs] for costs in found.values())
    lines = [
        Line(name, Spread.of(values), "cores") for name, values in zip(found, (ended, kept), strict=True)
    ]
    lines.append(Line("ended : kept", Spread.of_ratios(ended, kept), "x"))
    show("CPU of one worker's data and of Ray itself, with equal pixels", lines)


if __name__ == "__main__":
    main()

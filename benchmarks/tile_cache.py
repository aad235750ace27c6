"""Measure the CPU time of decoding on a node with one to eight trials, with and without a tile cache.

    python benchmarks/tile_cache.py [--materials DIR] [--rounds 5] [--quick]

A trial is a process that fetches and collates the draws of one plan in one thread, as a worker does without
Ray. All trials of a run start at the same time with the same draws, like those of a sweep, so they need the
same tiles at the same moment. Materials have 1024 px and the maps that an albedo task reads; files are in
the page cache.

- off: every trial decodes the tiles of its crops;
- cold: with a cache that is empty at the start of the run;
- warm: with a cache that holds all tiles;
- full: with a cache that is full of other tiles in use, so that it keeps no tile.

Every round runs each number of trials in each way once, in random order. "decoding" is the CPU time inside
the decoder of tiles, summed over the trials. "all" includes fetching, reads and writes of the cache,
cropping and stacking. Every trial of every run must deliver the same pixels. A second part measures the
stream that training uses, through Ray Data: the CPU time of the process tree with tasks and daemons.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from timing import EQUAL_PRIORITY, Goal, Line, Spread, checksum, interleaved, show, tree_cpu

from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.data.draws.fetch import fetch
from pbrlib.data.draws.plan import DrawPlan, PlanRequest, make_plan
from pbrlib.data.materials.material import Source
from pbrlib.data.shards import dataset, window
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from ray_jobs.cluster.session import ray_session
from ray_jobs.fit.datasets import stream

NAMES = ("diffuse", "albedo", "normal", "roughness", "metallic", "ao")
BATCH = 8
DRAWS = {256: 192, 512: 64, 1024: 16}
"""The number of draws of a trial, by crop."""

WAYS = ("off", "cold", "warm", "full")
MATERIALS_PER_SHARD = 4
LARGE_CACHE_BYTES = 64 * 2**30


@dataclass(frozen=True)
class Trial:
    """The draws that a process has to deliver, and its cache."""

    shards: str
    cache: Path | None
    crop: int
    draws: int
    cache_bytes: int = LARGE_CACHE_BYTES


@dataclass(frozen=True)
class Cost:
    """The cost of a trial, or of parallel trials: the sum of CPU seconds, the maximum of wall time."""

    decoding_s: float
    cpu_s: float
    wall_s: float
    decoded: int
    pixels: frozenset[int]

    @classmethod
    def of_node(cls, costs: Sequence[Cost]) -> Cost:
        """Return the cost of trials that ran in parallel."""
        return cls(
            decoding_s=sum(cost.decoding_s for cost in costs),
            cpu_s=sum(cost.cpu_s for cost in costs),
            wall_s=max(cost.wall_s for cost in costs),
            decoded=sum(cost.decoded for cost in costs),
            pixels=frozenset[int]().union(*(cost.pixels for cost in costs)),
        )


class Decoding:
    """The CPU time and number of calls of the tile decoder in this process."""

    def __init__(self) -> None:
        self.cpu_s, self.calls = 0.0, 0

    def timed(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its CPU time and its calls counted."""

        def run(*given: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return decode(*given, **named)
            finally:
                self.cpu_s += time.thread_time() - began
                self.calls += 1

        return run

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count the three functions that decode: a part of a tile, a complete tile, a tile for the cache."""
        places = [(window, "decode_part"), (window, "decode_tile"), (dataset, "decode_tile")]
        before = [getattr(module, name) for module, name in places]
        for (module, name), decode in zip(places, before, strict=True):
            setattr(module, name, self.timed(decode))
        try:
            yield
        finally:
            for (module, name), decode in zip(places, before, strict=True):
                setattr(module, name, decode)


def write_set(root: Path, source: Source, *, count: int) -> ShardSet:
    shards, rows = [], []
    entries = list(source.entries())[:count]
    for ordinal, start in enumerate(range(0, len(entries), MATERIALS_PER_SHARD)):
        path = root / shard_name(version=1, ordinal=ordinal)
        materials = [source.load(entry) for entry in entries[start : start + MATERIALS_PER_SHARD]]
        info, of_shard = write_shard(path, materials, split_for=lambda material: "train")
        shards.append(info)
        rows.append(of_shard)
    publish(root, shards=shards, rows=rows, previous=None)
    return ShardSet.open(root)


def plan_of(shards: ShardSet, trial: Trial) -> DrawPlan:
    return make_plan(
        shards.rows,
        PlanRequest(
            mix={shards.rows[0].source: 1.0},
            crop=trial.crop,
            batch=BATCH,
            epochs=1,
            maps=("normal",),
            balance=BalanceSpec(),
            seed=0,
            phase="tile cache",
            steps_per_epoch=trial.draws // BATCH,
        ),
    )


def opened(trial: Trial) -> ShardSet:
    cache = None if trial.cache is None else TileCache(trial.cache, max_bytes=trial.cache_bytes, keep_free=0)
    return ShardSet.open(trial.shards, cache=cache)


def batches_of(trial: Trial, shards: ShardSet, plan: DrawPlan) -> Iterator[RawBatch]:
    for first in range(0, plan.table.num_rows, BATCH):
        yield collate(fetch(plan.table.slice(first, BATCH), shards, NAMES), shards, maps=NAMES)


def pixels_of(batches: Sequence[RawBatch]) -> int:
    return checksum(batch.maps[name] for batch in batches for name in NAMES)


def run_trial(trial: Trial, begin: Callable[[], object] = lambda: None) -> Cost:
    """Run one trial in this process; ``begin`` returns when all trials are ready."""
    shards = opened(trial)
    plan = plan_of(shards, trial)
    decoding = Decoding()
    with decoding.watched():
        begin()
        cpu, wall = time.process_time(), time.perf_counter()
        batches = list(batches_of(trial, shards, plan))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(decoding.cpu_s, cpu, wall, decoding.calls, frozenset([pixels_of(batches)]))


def serve(line: Connection, barriers: Mapping[int, Any]) -> None:
    """Run trials in a process of the pool until None is received."""
    torch.set_num_threads(1)
    while (asked := line.recv()) is not None:
        trial, together = asked
        line.send(run_trial(trial, barriers[together].wait))


class Node:
    """A pool with one process per trial, started once since importing takes longer than a run."""

    def __init__(self, numbers: Sequence[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._barriers = {number: context.Barrier(number) for number in numbers}
        self._lines, self._processes = [], []
        for _ in range(max(numbers)):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, self._barriers), daemon=True)
            process.start()
            self._lines.append(ours)
            self._processes.append(process)

    def run(self, trial: Trial, *, number: int) -> Cost:
        """Run the same trial in ``number`` processes at once."""
        for line in self._lines[:number]:
            line.send((trial, number))
        return Cost.of_node([line.recv() for line in self._lines[:number]])

    def close(self) -> None:
        """End the processes."""
        for line, process in zip(self._lines, self._processes, strict=True):
            line.send(None)
            process.join()


def ways_of(node: Node, trial: Trial, root: Path, numbers: Sequence[int]) -> dict[str, Callable[[], Cost]]:
    """Return a function for each number of trials and each of ``WAYS``."""

    def cold(number: int) -> Cost:
        with tempfile.TemporaryDirectory(
            dir=root
        ) as cache:  # deleted before the kernel writes it to the disk
            return node.run(Trial(trial.shards, Path(cache), trial.crop, trial.draws), number=number)

    warm = Trial(trial.shards, root / f"warm{trial.crop}", trial.crop, trial.draws)
    full = Trial(trial.shards, root / f"full{trial.crop}", trial.crop, trial.draws, cache_bytes=4096)
    node.run(warm, number=1)
    ways: dict[str, Callable[[], Cost]] = {}
    for number in numbers:
        ways[f"{number} off"] = lambda number=number: node.run(trial, number=number)  # type: ignore[misc]
        ways[f"{number} cold"] = lambda number=number: cold(number)  # type: ignore[misc]
        ways[f"{number} warm"] = lambda number=number: node.run(warm, number=number)  # type: ignore[misc]
        ways[f"{number} full"] = lambda number=number: node.run(full, number=number)  # type: ignore[misc]
    return ways


def check_pixels(found: Mapping[str, Sequence[Cost]]) -> None:
    pixels = frozenset[int]().union(*(cost.pixels for costs in found.values() for cost in costs))
    if len(pixels) != 1:
        raise SystemExit("tile_cache: got different pixels; expected equal pixels from all ways and trials")


def report(found: Mapping[str, Sequence[Cost]], trial: Trial, numbers: Sequence[int]) -> None:
    check_pixels(found)
    steps = trial.draws // BATCH
    lines = []
    for way in WAYS:
        for number in numbers:
            costs = found[f"{number} {way}"]
            name, tiles = f"{way}, {number} trial{'s' * (number > 1)}", costs[0].decoded
            lines += [
                Line(f"{name}: decoding ({tiles} tiles)", Spread.of(c.decoding_s for c in costs), "CPU s"),
                Line(f"{name}: all", Spread.of(c.cpu_s for c in costs), "CPU s"),
                Line(f"{name}: a batch", Spread.of(c.wall_s / steps * 1e3 for c in costs), "ms"),
            ]
    most, flat = max(numbers), Goal("at most", 1.1)
    for way in ("off", "cold"):
        above, below = ([c.decoding_s for c in found[f"{n} {way}"]] for n in (most, min(numbers)))
        goal = flat if way == "cold" else None
        lines.append(Line(f"{way}: decoding, {most} trials : 1", Spread.of_ratios(above, below), "x", goal))
    for way in WAYS[1:]:
        for number in (min(numbers), most):
            above, below = ([c.cpu_s for c in found[f"{number} {name}"]] for name in (way, "off"))
            lines.append(Line(f"{way} : off, all, trials: {number}", Spread.of_ratios(above, below), "x"))
    show(f"Crops of {trial.crop} px, {trial.draws} draws a trial in batches of {BATCH}", lines)


def through_ray(trial: Trial, root: Path, *, rounds: int) -> None:
    """Measure the stream of one worker: the CPU time of the process tree for each sample."""

    def deliver(cache: Path | None) -> Cost:
        shards = opened(Trial(trial.shards, cache, trial.crop, trial.draws))
        plan = plan_of(shards, trial)
        cpu, wall = tree_cpu(os.getpid()), time.perf_counter()
        batches = list(stream(plan.table, shards, maps=NAMES, batch=BATCH, cpus=1.0, prefetch=2))
        wall, cpu = time.perf_counter() - wall, tree_cpu(os.getpid()) - cpu
        return Cost(0.0, cpu, wall, 0, frozenset([pixels_of(batches)]))

    def cold() -> Cost:
        with tempfile.TemporaryDirectory(dir=root) as cache:
            return deliver(Path(cache))

    with ray_session():
        deliver(root / "warm-ray")
        found = interleaved(
            {
                "off": lambda: deliver(None),
                "cold": cold,
                "warm": lambda: deliver(root / "warm-ray"),
            },
            rounds=rounds,
            dropped=1,
        )
    check_pixels(found)
    cpu = {name: [cost.cpu_s / trial.draws * 1e3 for cost in costs] for name, costs in found.items()}
    lines = [Line(name, Spread.of(cpu[name]), "CPU ms/sample") for name in ("off", "cold", "warm")]
    lines += [Line(f"{way} : off", Spread.of_ratios(cpu[way], cpu["off"]), "x") for way in ("cold", "warm")]
    show(f"Through Ray Data, {trial.draws} crops of {trial.crop} px, start-up included", lines)


def sizes(shards: ShardSet, cache: TileCache) -> None:
    """Print the size of the cached tiles, and the size of the shards with all of their maps."""
    files = [file for file in cache.folder.glob("*/*/tiles/*/*") if file.name != "used"]
    raw = sum(file.stat().st_size for file in files)
    kept = {(file.parent.name.split(".")[0], file.name) for file in files}
    stored = sum(info.bytes for info in shards.manifest.shards)
    print(f"{len(shards.rows)} materials, {len(kept)} tiles, {len(files)} files: ", end="")
    print(f"{cache.used_bytes / len(kept) / 2**10:.0f} KiB a tile on disk, ", end="")
    print(f"{raw / len(kept) / 2**10:.0f} of them pixels; ", end="")
    print(f"shards {stored / 2**20:.0f} MiB, cache {cache.used_bytes / 2**20:.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--materials", type=Path, help="folder of materials; default: generated materials")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-ray", action="store_true", help="skip the stream of Ray Data")
    parser.add_argument("--quick", action="store_true", help="run one short round, as a test")
    options = parser.parse_args()
    os.environ.update(EQUAL_PRIORITY)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quick = options.quick
    numbers, crops = ((1, 2), (256,)) if quick else ((1, 2, 4, 8), tuple(DRAWS))
    source: Source = (
        FolderSource(str(options.materials), 1024)
        if options.materials
        else GeneratedSource(count=2 if quick else 12, size=512 if quick else 1024, seed=0)
    )
    with tempfile.TemporaryDirectory(prefix="tile-cache-") as folder:
        root = Path(folder)
        shards = write_set(root / "set", source, count=12)
        node = Node(numbers)
        for crop in crops:
            trial = Trial(shards.location, None, crop, 16 if quick else DRAWS[crop])
            ways = ways_of(node, trial, root, numbers)
            if crop == crops[0]:
                sizes(shards, TileCache(root / f"warm{crop}", max_bytes=LARGE_CACHE_BYTES))
            found = interleaved(ways, rounds=1 if quick else options.rounds, dropped=0 if quick else 1)
            report(found, trial, numbers)
        node.close()
        if not options.no_ray:
            ray_trial = Trial(shards.location, None, 256, 64 if quick else 768)
            through_ray(ray_trial, root, rounds=1 if quick else options.rounds)


if __name__ == "__main__":
    main()

"""Compare the throughput of unaligned 256 px crops: training's stream, PNG files, a plain loop.

    python benchmarks/delivery.py [--materials 12] [--rounds 10] [--quick]

Materials have 1024 px and nine channels of uint8, as a map task reads them: albedo 3, normal 3, roughness,
metallic, AO. All ways deliver the draws of one plan in the same order, in batches of 16:

- stream: the Ray Data execution that training uses, a single one for all epochs of the phase;
- PNG files: torch DataLoader, two workers, Pillow decodes every map of a draw completely before it is
  cropped;
- plain loop: fetch and collate from the same shards in one thread.

Every round runs each way once, in random order, with files in the page cache. The measured interval of a
way lies between two of its batches, after start-up and before the last batches. Start-up is printed
separately. CPU time is that of the process tree; only for the stream it includes Ray's daemons and tasks.
Batches are kept until the end of the measurement. The pixels of equal steps must have equal checksums.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import imagecodecs
import numpy as np
import torch
from PIL import Image
from timing import EQUAL_PRIORITY, Goal, Line, Spread, checksum, children, interleaved, show, tree_cpu
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.data.draws.fetch import fetch
from pbrlib.data.draws.plan import DrawPlan, PlanRequest, make_plan
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.generated import GeneratedSource
from ray_jobs.cluster.session import ray_session
from ray_jobs.fit.datasets import stream

BATCH, CROP = 16, 256
NAMES = ("albedo", "normal", "roughness", "metallic", "ao")
MATERIALS_PER_SHARD = 4
Pixels = dict[str, Tensor]


@dataclass(frozen=True)
class Span:
    """The steps that a way delivers, and the range of steps that is measured."""

    steps: range
    measured: range


@dataclass(frozen=True)
class Extent:
    """The length of a run of each way, in steps of 16 crops.

    The stream runs until its pipeline is full before it is measured, and continues after the measurement,
    so that its tasks are busy during the complete measurement.
    """

    steps_per_epoch: int
    epochs: int
    stream: Span
    plain: Span
    png: Span


FULL = Extent(
    16,
    7,
    stream=Span(range(112), range(16, 80)),
    plain=Span(range(47, 112), range(48, 112)),
    png=Span(range(20), range(4, 16)),
)
QUICK = Extent(
    4,
    8,
    stream=Span(range(32), range(8, 24)),
    plain=Span(range(15, 32), range(16, 32)),
    png=Span(range(8), range(4, 6)),
)


@dataclass(frozen=True)
class Delivery:
    """The results of a run: rates of the measured steps, waiting time and checksum of every step."""

    samples_per_s: float
    cpu_ms_per_sample: float
    start_up_s: float
    waits_s: Mapping[int, float]
    checksums: Mapping[int, int]


class PngCrops(Dataset[Pixels]):
    """A dataset of the draws of a plan, read from ``ROOT/ID/MAP.png``."""

    def __init__(self, root: Path, shards: ShardSet, plan: DrawPlan, steps: range) -> None:
        draws = plan.table.slice(steps.start * BATCH, len(steps) * BATCH).to_pylist()
        self._draws = [(root / shards.rows[draw["sample"]].id, draw["y"], draw["x"]) for draw in draws]

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, number: int) -> Pixels:
        folder, y, x = self._draws[number]
        crops = {}
        for name in NAMES:
            with Image.open(folder / f"{name}.png") as image:
                pixels = np.asarray(image)
            crop = pixels[y : y + CROP, x : x + CROP].reshape(CROP, CROP, -1)
            crops[name] = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        return crops


def write_materials(root: Path, *, count: int, size: int) -> ShardSet:
    """Write generated materials as a shard set and as ``ROOT/png/ID/MAP.png``."""
    source = GeneratedSource(count=count, size=size, seed=0)
    entries = list(source.entries())
    shards, rows = [], []
    for ordinal, start in enumerate(range(0, count, MATERIALS_PER_SHARD)):
        materials = []
        for entry in entries[start : start + MATERIALS_PER_SHARD]:
            made = source.load(entry)
            # Not tileable, since a window across the border would need more than one crop of the PNG file.
            materials.append(replace(made, tileable=False, maps={name: made.maps[name] for name in NAMES}))
            folder = root / "png" / made.id
            folder.mkdir(parents=True)
            for name in NAMES:
                encoded = imagecodecs.png_encode(np.ascontiguousarray(np.squeeze(made.maps[name])), level=6)
                (folder / f"{name}.png").write_bytes(encoded)
        path = root / shard_name(version=1, ordinal=ordinal)
        info, of_shard = write_shard(path, materials, split_for=lambda material: "train")
        shards.append(info)
        rows.append(of_shard)
    publish(root, shards=shards, rows=rows, previous=None)
    return ShardSet.open(root)


def plan_of(shards: ShardSet, extent: Extent, *, crop: int = CROP) -> DrawPlan:
    return make_plan(
        shards.rows,
        PlanRequest(
            mix={"generated": 1.0},
            crop=crop,
            batch=BATCH,
            epochs=extent.epochs,
            maps=NAMES,
            balance=BalanceSpec(),
            seed=0,
            phase="delivery",
            steps_per_epoch=extent.steps_per_epoch,
        ),
    )


def from_stream(shards: ShardSet, plan: DrawPlan, steps: range) -> Iterator[Pixels]:
    draws = plan.table.slice(steps.start * BATCH, len(steps) * BATCH)
    for batch in stream(draws, shards, maps=NAMES, batch=BATCH, cpus=1.0, prefetch=2):
        yield batch.maps


def from_plain_loop(shards: ShardSet, plan: DrawPlan, steps: range) -> Iterator[Pixels]:
    for step in steps:
        draws = plan.table.slice(step * BATCH, BATCH)
        yield collate(fetch(draws, shards, NAMES), shards, maps=NAMES).maps


def png_loader(root: Path, shards: ShardSet, plan: DrawPlan, steps: range) -> DataLoader[Pixels]:
    """Return a loader with persistent spawned workers: a fork of a process with Ray's threads may hang."""
    return DataLoader(
        PngCrops(root / "png", shards, plan, steps),
        batch_size=BATCH,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )


def deliver(
    open_batches: Callable[[], Iterator[Pixels]], span: Span, *, without: Collection[int] = ()
) -> Delivery:
    """Measure a way by taking every batch at once; the CPU time of processes ``without`` does not count."""
    first, last = (
        span.measured[0] - 1,
        span.measured[-1],
    )  # measured from the arrival of `first` to that of `last`
    batches: list[Pixels] = []
    arrivals = [time.perf_counter()]
    for step, batch in zip(span.steps, open_batches(), strict=True):
        arrivals.append(time.perf_counter())
        batches.append(batch)
        if step == first:
            cpu = tree_cpu(os.getpid(), without=without)
            began = time.perf_counter()
        elif step == last:
            wall = arrivals[-1] - began
            cpu = tree_cpu(os.getpid(), without=without) - cpu
    samples = len(span.measured) * BATCH
    waits = [after - before for before, after in pairwise(arrivals)]
    return Delivery(
        samples_per_s=samples / wall,
        cpu_ms_per_sample=cpu / samples * 1e3,
        start_up_s=waits[0],
        waits_s=dict(zip(span.steps, waits, strict=True)),
        checksums={
            step: checksum(batch[name] for name in NAMES)
            for step, batch in zip(span.steps, batches, strict=True)
        },
    )


def compare(root: Path, shards: ShardSet, extent: Extent, *, rounds: int) -> dict[str, list[Delivery]]:
    """Return the deliveries of each way for each round; exit if the pixels differ."""
    plan = plan_of(shards, extent)
    with ray_session():
        ray = children(os.getpid())
        before = deliver(lambda: from_stream(shards, plan, extent.stream.steps), extent.stream)
        print(f"First batch of the first stream of the session: {before.start_up_s:.1f} s", flush=True)
        loader = png_loader(root, shards, plan, extent.png.steps)
        found = interleaved(
            {
                "stream": lambda: deliver(
                    lambda: from_stream(shards, plan, extent.stream.steps), extent.stream
                ),
                "PNG files": lambda: deliver(lambda: iter(loader), extent.png, without=ray),
                "plain loop": lambda: deliver(
                    lambda: from_plain_loop(shards, plan, extent.plain.steps), extent.plain, without=ray
                ),
            },
            rounds=rounds,
            dropped=1,
        )
    check_pixels(found)
    return found


def check_pixels(found: Mapping[str, list[Delivery]]) -> None:
    compared = 0
    known: dict[int, int] = {}
    for name, deliveries in found.items():
        for delivery in deliveries:
            for step, value in delivery.checksums.items():
                compared += step in known
                if known.setdefault(step, value) != value:
                    sys.exit(
                        f"step {step}: got other pixels from the {name}; expected equal pixels from all ways."
                    )
    print(f"{compared} batches compared with one of the same step: equal pixels.")


def report(found: Mapping[str, list[Delivery]], *, steps_per_epoch: int) -> None:
    rate = {name: [one.samples_per_s for one in runs] for name, runs in found.items()}
    cpu = {name: [one.cpu_ms_per_sample for one in runs] for name, runs in found.items()}
    lines = [Line(name, Spread.of(values), "samples/s") for name, values in rate.items()]
    lines += [Line(name, Spread.of(values), "CPU ms/sample") for name, values in cpu.items()]
    faster, slower = Goal("at least", 10.0), Goal("at least", 0.9)
    png, plain = "PNG files", "plain loop"
    lines += [
        Line("stream : PNG files, rate", Spread.of_ratios(rate["stream"], rate[png]), "x", faster),
        Line("stream : plain loop, rate", Spread.of_ratios(rate["stream"], rate[plain]), "x", slower),
        Line("plain loop : PNG files, rate", Spread.of_ratios(rate[plain], rate[png]), "x"),
        Line("PNG files : stream, CPU", Spread.of_ratios(cpu[png], cpu["stream"]), "x"),
        Line("stream : plain loop, CPU", Spread.of_ratios(cpu["stream"], cpu[plain]), "x"),
    ]
    show("Delivery, steady state", lines)
    borders, others = [], []
    for run in found["stream"]:
        later = {step: wait for step, wait in run.waits_s.items() if step >= steps_per_epoch}
        borders.append(max(wait for step, wait in later.items() if step % steps_per_epoch == 0))
        others.append(median(wait for step, wait in later.items() if step % steps_per_epoch))
    show(
        "Start-up and epochs of the stream (one execution for all epochs of a phase)",
        [
            Line("first batch of the phase", Spread.of(run.start_up_s for run in found["stream"]), "s"),
            Line(
                "first batch of epochs 2+, the slowest",
                Spread.of(borders),
                "s",
                Goal("at most", 0.3),
            ),
            Line("any other batch, the median", Spread.of(others), "s"),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--materials", type=int, default=12)
    parser.add_argument("--size", type=int, default=1024, help="size of a material in pixels")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="run two short rounds, as a test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.update(EQUAL_PRIORITY)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    extent, rounds = (QUICK, 2) if options.quick else (FULL, options.rounds)
    with tempfile.TemporaryDirectory(prefix="delivery-") as folder:
        shards = write_materials(Path(folder), count=options.materials, size=options.size)
        print(f"{options.materials} generated materials of {options.size} px", flush=True)
        found = compare(Path(folder), shards, extent, rounds=rounds)
    report(found, steps_per_epoch=extent.steps_per_epoch)


if __name__ == "__main__":
    main()

"""Compare the cost of a random unaligned 256 px crop: shards, PNG files of complete maps, and memcpy.

    python benchmarks/crops.py [--materials DIR] [--pairs 20]

A crop has 13 channels with 14 bytes per pixel: diffuse 3, albedo 3, normal 3, roughness, metallic, AO
(uint8), height (uint16). Textures have 1024 px; those of 2048 px consist of four rotated copies. Maps that
a material lacks are derived from similar ones. The benchmark uses one thread and files in the page cache.
Every round reads one crop of one texture in every way, in random order, and compares the pixels outside of
the measured time. PNG is read by the fastest available decoder, which a first run determines. The goals
apply to CPU time, which depends less on other load of the machine than wall time.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from pbrlib.data.materials.material import Material, Source
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.maps import MAPS, Stored

CROP = 256
NAMES = ("diffuse", "albedo", "normal", "roughness", "metallic", "ao", "height")
GOALS = {1024: 10.0, 2048: 40.0}
Crop = dict[str, Stored]


@dataclass(frozen=True)
class Cost:
    """The milliseconds of one crop."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Way:
    """One way to read a crop: its name, and a function of texture number and window."""

    name: str
    read: Callable[[int, Window], Crop]


def decode_pillow(data: bytes) -> Stored:
    return np.asarray(Image.open(io.BytesIO(data)))


def decode_spng(data: bytes) -> Stored:
    sixteen_bits = data[24] == 16  # bit depth in the header; libspng in imagecodecs does not read 16 bits
    return imagecodecs.png_decode(data) if sixteen_bits else imagecodecs.spng_decode(data)


DECODERS: dict[str, Callable[[bytes], Stored]] = {
    "Pillow": decode_pillow,
    "imagecodecs libpng": imagecodecs.png_decode,
    "imagecodecs libspng": decode_spng,
}


def thirteen_channels(material: Material) -> Crop:
    """Return all maps of a material; those that it lacks are derived from similar ones."""
    maps = dict(material.maps)
    maps.setdefault("metallic", np.zeros_like(maps["roughness"]))
    maps.setdefault("ao", maps["roughness"])
    maps.setdefault("height", maps["ao"].astype(np.uint16) * 257)
    shade = 0.6 + 0.4 * maps["ao"] / 255
    maps.setdefault("diffuse", np.rint(maps["albedo"] * shade).astype(np.uint8))
    return {name: np.ascontiguousarray(maps[name]) for name in NAMES}


def doubled(pixels: Stored) -> Stored:
    """Return four rotated copies as one picture: PNG's deflate would find the repetition of equal copies."""
    turned = [np.rot90(pixels, turns) for turns in range(4)]
    return np.concatenate([np.concatenate(turned[:2], 1), np.concatenate(turned[2:], 1)], 0)


def write_shards(root: Path, textures: Iterable[Crop]) -> ShardSet:
    materials = [
        Material(f"m{number:03d}", f"m{number}", "bench", None, True, "CC0-1.0", "", maps)
        for number, maps in enumerate(textures)
    ]
    path = root / shard_name(version=1, ordinal=0)
    info, rows = write_shard(path, materials, split_for=lambda material: "train")
    publish(root, shards=[info], rows=[rows], previous=None)
    return ShardSet.open(root)


def write_png(root: Path, textures: Iterable[Crop]) -> None:
    for number, maps in enumerate(textures):
        for name, pixels in maps.items():
            path = root / "png" / f"{number}" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(imagecodecs.png_encode(np.squeeze(pixels), level=6))


def crop_of(maps: Mapping[str, Stored], window: Window) -> Crop:
    rows, columns = (
        slice(window.y, window.y + window.height),
        slice(window.x, window.x + window.width),
    )
    return {name: pixels[rows, columns].copy() for name, pixels in maps.items()}


def read_png(root: Path, decode: Callable[[bytes], Stored], number: int, window: Window) -> Crop:
    crop: Crop = {}
    for name in NAMES:
        pixels = decode((root / "png" / f"{number}" / f"{name}.png").read_bytes())
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        crop |= crop_of({name: pixels}, window)
    return crop


def timed(way: Way, number: int, window: Window) -> tuple[Cost, Crop]:
    wall, cpu = time.perf_counter(), time.thread_time()
    crop = way.read(number, window)
    return Cost(wall=(time.perf_counter() - wall) * 1e3, cpu=(time.thread_time() - cpu) * 1e3), crop


def checksum(crop: Crop) -> int:
    value = 0
    for name in NAMES:
        value = zlib.crc32(np.ascontiguousarray(crop[name], MAPS[name].dtype).tobytes(), value)
    return value


def best_decoder(root: Path, count: int) -> str:
    window, costs = Window(0, 0, CROP, CROP), {}
    for name, decode in DECODERS.items():
        way = Way(name, partial(read_png, root, decode))
        costs[name] = statistics.median(timed(way, number % count, window)[0].cpu for number in range(4))
    print("PNG decoders, CPU ms:", ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items()))
    return min(costs, key=lambda name: costs[name])


def compare(ways: list[Way], *, count: int, size: int, pairs: int) -> dict[str, list[Cost]]:
    """Return the costs of each way for each round; exit if the pixels differ."""
    rng = random.Random(size)
    times: dict[str, list[Cost]] = {way.name: [] for way in ways}
    for turn in range(pairs + 2):
        number = rng.randrange(count)
        window = Window(rng.randrange(size - CROP), rng.randrange(size - CROP), CROP, CROP)
        sums = set()
        for way in rng.sample(ways, len(ways)):
            cost, crop = timed(way, number, window)
            sums.add(checksum(crop))
            if turn >= 2:  # the first two rounds open files
                times[way.name].append(cost)
        if len(sums) != 1:
            sys.exit(
                f"crop {window} of texture {number}: got different pixels; expected equal ones from all ways"
            )
    return times


def report(costs: dict[str, list[Cost]], *, size: int) -> None:
    """Print median and quartiles of each way, and of its ratio to the shards in the same round."""
    print(f"{'way':<27}{'':<5}{'median ms':>10}{'quartiles':>18}{'of shards':>12}{'quartiles':>18}")
    for name in costs:
        for clock in ("wall", "cpu"):
            own = [getattr(cost, clock) for cost in costs[name]]
            base = [getattr(cost, clock) for cost in costs["shards"]]
            low, middle, high = statistics.quantiles(own, n=4)
            ratio = statistics.quantiles([one / two for one, two in zip(own, base, strict=True)], n=4)
            spread = f"{low:.2f} .. {high:.2f}"
            print(f"{name if clock == 'wall' else '':<27}{clock:<5}{middle:>10.2f}{spread:>18}", end="")
            print(f"{ratio[1]:>11.2f}x{f'{ratio[0]:.2f} .. {ratio[2]:.2f}':>18}")
        if name.startswith("PNG"):
            verdict = "reached" if ratio[1] >= GOALS[size] else "MISSED"
            print(f"    goal at {size} px: {GOALS[size]:.0f}x, {verdict}: {ratio[1]:.1f}x of CPU time")


def run(textures: list[Crop], *, size: int, pairs: int) -> None:
    raw = sum(pixels.nbytes for maps in textures for pixels in maps.values())
    with tempfile.TemporaryDirectory(prefix="crops-") as folder:
        root = Path(folder)
        shards = write_shards(root, textures)
        write_png(root, textures)
        stored = sum(info.bytes for info in shards.manifest.shards)
        files = sum(path.stat().st_size for path in root.glob("png/*/*.png"))
        print(
            f"\n{size} px, {len(textures)} textures; of raw: shards {stored / raw:.2f}, PNG {files / raw:.2f}"
        )
        decoder = best_decoder(root, len(textures))
        ways = [
            Way("shards", lambda number, window: shards.read_crop(shards.rows[number], window, NAMES)),
            Way(f"PNG ({decoder})", partial(read_png, root, DECODERS[decoder])),
            Way("memcpy", lambda number, window: crop_of(textures[number], window)),
        ]
        report(compare(ways, count=len(textures), size=size, pairs=pairs), size=size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--materials", type=Path, help="folder of materials of 1024 px; default: generated materials"
    )
    parser.add_argument("--textures", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    torch.set_num_threads(1)
    source: Source = (
        FolderSource(str(options.materials), 1024)
        if options.materials
        else GeneratedSource(count=options.textures, size=1024, seed=0)
    )
    entries = list(source.entries())[: options.textures]
    textures = [thirteen_channels(source.load(entry)) for entry in entries]
    run(textures, size=1024, pairs=options.pairs)
    large = [{name: doubled(pixels) for name, pixels in maps.items()} for maps in textures]
    run(large, size=2048, pairs=options.pairs)


if __name__ == "__main__":
    main()

"""Cost of one random unaligned 256 px crop of all maps: shards against whole-map PNG files and memcpy.

    python benchmarks/crops.py [--materials DIR] [--pairs 20]

13 channels, 14 bytes a pixel: diffuse 3, albedo 3, normal 3, roughness, metallic, AO (uint8), height
(uint16). Textures of 1024 px; 2048 px ones are the same tiled 2 x 2. One thread, files warm in the page
cache. Every round draws one crop of one texture by every way in turn, in changing order; the pixels are
compared outside the clock. PNG is read by the fastest decoder at hand, found by a first run.
"""

from __future__ import annotations

import argparse
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
from PIL import Image

from pbrlib.data.draw import Window
from pbrlib.data.material import Material
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.maps import MAPS, Stored

CROP = 256
NAMES = ("diffuse", "albedo", "normal", "roughness", "metallic", "ao", "height")
GOALS = {1024: 10.0, 2048: 40.0}
Crop = dict[str, Stored]


@dataclass(frozen=True)
class Way:
    """One way to a crop: its name and a function of texture number and window."""

    name: str
    read: Callable[[int, Window], Crop]


def decode_pillow(data: bytes) -> Stored:
    import io

    return np.asarray(Image.open(io.BytesIO(data)))


def decode_spng(data: bytes) -> Stored:
    sixteen_bits = data[24] == 16  # in the header; libspng in imagecodecs does not read them
    return imagecodecs.png_decode(data) if sixteen_bits else imagecodecs.spng_decode(data)


DECODERS: dict[str, Callable[[bytes], Stored]] = {
    "Pillow": decode_pillow,
    "imagecodecs libpng": imagecodecs.png_decode,
    "imagecodecs libspng": decode_spng,
}


def synthetic_textures(count: int, *, size: int) -> Iterable[Crop]:
    """Smooth random fields with fine noise: roughly as compressible as photographed textures."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size

        def field(frequency: np.ndarray = frequency, rng: np.random.Generator = rng) -> np.ndarray:
            white = rng.standard_normal((size, size))
            shaped = np.fft.irfft2(np.fft.rfft2(white) / np.maximum(frequency, 1.0) ** 1.2, s=(size, size))
            return np.clip(0.5 + 0.15 * shaped / shaped.std(), 0, 1)

        height = field()
        slopes = [np.roll(height, 1, axis) - np.roll(height, -1, axis) for axis in (1, 0)]
        normal = np.stack([6 * slopes[0], -6 * slopes[1], np.ones_like(height)], -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        albedo = np.stack([0.7 * height + 0.3 * field() for _ in range(3)], -1)
        ao = 0.6 + 0.4 * field()
        planes = {
            "diffuse": albedo * ao[..., None],
            "albedo": albedo,
            "normal": normal,
            "roughness": field()[..., None],
            "metallic": (field() > 0.7)[..., None].astype(float),
            "ao": ao[..., None],
            "height": height[..., None],
        }
        yield {name: MAPS[name].quantise(values) for name, values in planes.items()}


def real_textures(folder: Path, count: int) -> Iterable[Crop]:
    """Textures of a folder of materials; a missing map is taken from a kindred one."""
    kin = {"diffuse": "albedo", "metallic": "roughness", "ao": "roughness", "height": "ao"}
    for place in sorted(path for path in folder.iterdir() if path.is_dir())[:count]:
        files = {path.stem: path for path in place.iterdir()}
        maps: Crop = {}
        for name in ("albedo", "normal", "roughness", "diffuse", "metallic", "ao", "height"):
            if name in files:
                pixels = np.asarray(Image.open(files[name]))
                pixels = pixels[..., None] if pixels.ndim == 2 else pixels
                pixels = pixels[..., : MAPS[name].channels]
                maps[name] = pixels.astype(np.uint16) * 257 if name == "height" else pixels
            elif name == "diffuse":
                maps[name] = (maps["albedo"] * 0.8).astype(np.uint8)
            elif name == "height":
                maps[name] = maps["ao"].astype(np.uint16) * 257
            else:
                maps[name] = np.zeros_like(maps["roughness"]) if name == "metallic" else maps[kin[name]]
        yield {name: maps[name] for name in NAMES}


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
    crop = {}
    for name in NAMES:
        pixels = decode((root / "png" / f"{number}" / f"{name}.png").read_bytes())
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        crop |= crop_of({name: pixels}, window)
    return crop


def timed(way: Way, number: int, window: Window) -> tuple[float, Crop]:
    start = time.perf_counter()
    crop = way.read(number, window)
    return (time.perf_counter() - start) * 1e3, crop


def checksum(crop: Crop) -> int:
    value = 0
    for name in NAMES:
        value = zlib.crc32(np.ascontiguousarray(crop[name], MAPS[name].dtype).tobytes(), value)
    return value


def best_decoder(root: Path, count: int) -> str:
    window, costs = Window(0, 0, CROP, CROP), {}
    for name, decode in DECODERS.items():
        way = Way(name, partial(read_png, root, decode))
        costs[name] = statistics.median(timed(way, number % count, window)[0] for number in range(4))
    print("PNG decoders, ms:", ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items()))
    return min(costs, key=lambda name: costs[name])


def compare(ways: list[Way], *, count: int, size: int, pairs: int) -> dict[str, list[float]]:
    """Times of each way, round by round; exits if their pixels differ."""
    rng = random.Random(size)
    times: dict[str, list[float]] = {way.name: [] for way in ways}
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
            sys.exit(f"{window} of texture {number}: the ways give different pixels")
    return times


def report(times: dict[str, list[float]], *, size: int) -> None:
    shard = times["shards"]
    print(f"{'way':<28}{'median ms':>10}{'quartiles':>18}{'of shards':>11}{'quartiles':>18}")
    for name, costs in times.items():
        low, middle, high = statistics.quantiles(costs, n=4)
        ratio = statistics.quantiles([cost / own for cost, own in zip(costs, shard, strict=True)], n=4)
        print(f"{name:<28}{middle:>10.2f}{f'{low:.2f} .. {high:.2f}':>18}", end="")
        print(f"{ratio[1]:>10.2f}x{f'{ratio[0]:.2f} .. {ratio[2]:.2f}':>18}")
        if name.startswith("PNG"):
            verdict = "reached" if ratio[1] >= GOALS[size] else "MISSED"
            print(f"    goal at {size} px: {GOALS[size]:.0f}x, {verdict} ({ratio[1]:.1f}x)")


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
    parser.add_argument("--materials", type=Path, help="folder of real materials; synthetic ones otherwise")
    parser.add_argument("--textures", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    count = options.textures
    source = (
        real_textures(options.materials, count) if options.materials else synthetic_textures(count, size=1024)
    )
    textures = list(source)
    run(textures, size=1024, pairs=options.pairs)
    doubled = [{name: np.tile(pixels, (2, 2, 1)) for name, pixels in maps.items()} for maps in textures]
    run(doubled, size=2048, pairs=options.pairs)


if __name__ == "__main__":
    main()

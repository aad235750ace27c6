"""Measure the CPU time of reading a texture file, by format.

    python benchmarks/texture_reading.py [--side 1024] [--rounds 5]

The same wood texture is written in each format and read by one thread from the page cache. Every round
reads every file once. The result is the minimum CPU time over the rounds, which depends least on other load
of the machine.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.textures.blocks import Bytes, encode_dds
from pbrlib.textures.decode import read_texture
from pbrlib.textures.layouts import Block, num_mip_levels

BLOCKS = (Block.BC1, Block.BC3, Block.BC4, Block.BC5, Block.BC7)
PICTURES = {"PNG": ".png", "TGA": ".tga", "BMP": ".bmp", "JPEG": ".jpg", "WEBP": ".webp"}


def write_files(folder: Path, *, side: int) -> dict[str, Path]:
    """Write a file of every format with the same pixels; return their paths by format."""
    source = GeneratedSource(count=1, size=side, seed=3, families=("wood/plank",))
    albedo = source.load(next(iter(source.entries()))).maps["albedo"]
    pixels = np.dstack((albedo, np.full_like(albedo[..., :1], 255)))
    files = {}
    for block in BLOCKS:
        files[block.name] = folder / f"{block.name}.dds"
        files[block.name].write_bytes(encode_dds(_halved(pixels), block=block, srgb=False))
    for kind, ending in PICTURES.items():
        encoded = io.BytesIO()
        Image.fromarray(pixels[..., :3]).save(encoded, kind)
        files[kind] = folder / f"picture{ending}"
        files[kind].write_bytes(encoded.getvalue())
    return files


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the CPU milliseconds of a call."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def measure(files: dict[str, Path], *, rounds: int) -> dict[str, float]:
    """Return the minimum CPU milliseconds of each format."""
    taken: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(rounds):
        for name, path in files.items():
            taken[name].append(cpu_ms(lambda path=path: read_texture(path, use="colour")))  # type: ignore[misc]
    return {name: min(times) for name, times in taken.items()}


def _halved(pixels: Bytes) -> list[Bytes]:
    side = len(pixels)
    return [np.ascontiguousarray(pixels[:: 1 << n, :: 1 << n]) for n in range(num_mip_levels(side, side))]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), side=given.side)
        print(f"{'format':8} {'MB':>6} {'ms CPU':>8}")
        for name, ms in measure(files, rounds=given.rounds).items():
            print(f"{name:8} {files[name].stat().st_size / 1e6:6.2f} {ms:8.1f}")


if __name__ == "__main__":
    main()

"""Checks that converted textures fit on the disk, from the sizes in the headers of the input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pbrlib import storage
from pbrlib.convert.inputs import block_size
from pbrlib.convert.truepbr import TEXTURES
from pbrlib.errors import DataError
from pbrlib.maps import TRUE_PBR
from pbrlib.skyrim import GLOW_SUFFIX, NORMAL_SUFFIXES
from pbrlib.textures.decode import read_size
from pbrlib.textures.matching import Pair

_BYTES_PER_PIXEL = 3.0
"""Bytes per pixel of an opaque texture: albedo 0.5 (BC1), normal 1 and RMAOS 1 (BC7), height 0.5 (BC4)."""

_GLOW_BYTES_PER_PIXEL = 1.0
_MIP_FACTOR = 4 / 3


def estimate_bytes(pair: Pair) -> int:
    """Return the minimum bytes of a pair's converted files; 0 if a file is missing or damaged.

    A transparent diffuse takes half a byte per pixel more.
    """
    try:
        sizes = [(read_size(pair.diffuse), _BYTES_PER_PIXEL)]
        if pair.glow is not None:
            sizes.append((read_size(pair.glow), _GLOW_BYTES_PER_PIXEL))
    except (DataError, OSError):
        return 0
    return sum(round(_num_pixels(size) * bytes_per_pixel * _MIP_FACTOR) for size, bytes_per_pixel in sizes)


def check_space(pairs: Sequence[Pair], *, output: Path) -> None:
    """Raise DataError if the converted files do not fit; files of an earlier conversion are replaced."""
    free = storage.free_bytes(output)
    needed = sum(estimate_bytes(pair) for pair in pairs)
    if free is None or needed <= free:
        return
    existing = sum(_existing_bytes(output, pair) for pair in pairs)
    if needed - existing > free:
        raise DataError(
            f"{output}: got {_mb(free)} free; expected at least {_mb(needed - existing)} for {len(pairs)} "
            "textures. Free disk space, or choose another folder."
        )


def _existing_bytes(output: Path, pair: Pair) -> int:
    endings = [*(slot.ending for slot in TRUE_PBR.values()), NORMAL_SUFFIXES[0], GLOW_SUFFIX]
    files = {output / TEXTURES / f"{pair.name}{ending}.dds" for ending in endings}
    return sum(file.stat().st_size for file in files if file.is_file())


def _num_pixels(size: tuple[int, int]) -> int:
    height, width = block_size(size)
    return height * width


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"

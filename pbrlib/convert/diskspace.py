"""Whether converted textures fit on the disk, by the sizes in the headers of the old ones alone."""

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

_BYTES_OF_A_PIXEL = 3.0
"""Of an opaque texture: albedo 0.5 (BC1), normal 1 and RMAOS 1 (BC7), height 0.5 (BC4)."""

_BYTES_OF_A_GLOWING_PIXEL = 1.0
_MIPS = 4 / 3


def least_bytes(pair: Pair) -> int:
    """The bytes of a pair's converted files; a transparent diffuse takes half a byte a pixel more.

    0 for a file that vanished since it was listed.
    """
    try:
        sizes = [(read_size(pair.diffuse), _BYTES_OF_A_PIXEL)]
        if pair.glow is not None:
            sizes.append((read_size(pair.glow), _BYTES_OF_A_GLOWING_PIXEL))
    except (DataError, OSError):
        return 0
    return sum(round(_area(size) * of_a_pixel * _MIPS) for size, of_a_pixel in sizes)


def check_space(pairs: Sequence[Pair], *, output: Path) -> None:
    """Raise DataError where the converted files cannot fit; those of an earlier conversion are replaced."""
    free = storage.free_bytes(output)
    needed = sum(least_bytes(pair) for pair in pairs)
    if free is None or needed <= free:
        return
    standing = sum(_standing(output, pair) for pair in pairs)
    if needed - standing > free:
        raise DataError(
            f"{output}: got {_mb(free)} free; expected at least {_mb(needed - standing)} for {len(pairs)} "
            "textures. Make room there, or choose another folder."
        )


def _standing(output: Path, pair: Pair) -> int:
    endings = [*(slot.ending for slot in TRUE_PBR.values()), NORMAL_SUFFIXES[0], GLOW_SUFFIX]
    files = {output / TEXTURES / f"{pair.name}{ending}.dds" for ending in endings}
    return sum(file.stat().st_size for file in files if file.is_file())


def _area(size: tuple[int, int]) -> int:
    height, width = block_size(size)
    return height * width


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"

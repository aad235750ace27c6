"""What the fuzzer begins from: a small file of every format that is read, all generated."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from pbrlib.data.shards.codec import encode_tile
from pbrlib.textures.dds import Block, Masks
from tests.convert.textures import dds, picture

LAYOUTS = (
    Masks(4, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    Masks(4, (0xFF0000, 0xFF00, 0xFF, 0)),
    Masks(3, (0xFF0000, 0xFF00, 0xFF, 0)),
    Masks(2, (0xF800, 0x7E0, 0x1F, 0)),
    Masks(2, (0xF00, 0xF0, 0xF, 0xF000)),
    Masks(1, (0xFF, 0xFF, 0xFF, 0)),
)

SIDES = (1, 3, 16, 33, 64, 256)
"""Sides of the tiles that are decoded; a tile's case begins with the numbers of its two."""

DTYPES = ("uint8", "uint16")

_FOUR_CC = {
    Block.BC1: b"DXT1",
    Block.BC2: b"DXT3",
    Block.BC3: b"DXT5",
    Block.BC4: b"ATI1",
    Block.BC5: b"ATI2",
    Block.BC7: b"DX10",
}


def plain_dds(top: bytes, *, pixels: Block | Masks, width: int, height: int) -> bytes:
    """A DDS file of one level with the shortest header that says what its pixels are."""
    if isinstance(pixels, Block):
        form = struct.pack("<2I4s5I", 32, 0x4, _FOUR_CC[pixels], 0, 0, 0, 0, 0)
    else:
        flags = 0x41 if pixels.channels[3] else 0x40
        form = struct.pack("<2I4s5I", 32, flags, bytes(4), pixels.num_bytes * 8, *pixels.channels)
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, height, width, 0, 0, 0)
    more = struct.pack("<5I", 98, 3, 0, 1, 0) if pixels is Block.BC7 else b""
    return head + form + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + more + top


def dds_seeds() -> list[bytes]:
    """Every block format with and without the DX10 header, and masks of 8 to 32 bits."""
    rng = np.random.default_rng(0)
    written = [dds(picture(8, 16), block=block) for block in Block if block is not Block.BC2]
    blocks = [plain_dds(rng.bytes(6 * block.num_bytes), pixels=block, width=9, height=7) for block in Block]
    masked = [
        plain_dds(rng.bytes(15 * masks.num_bytes), pixels=masks, width=5, height=3) for masks in LAYOUTS
    ]
    return [*written, *blocks, *masked]


def tile_seeds() -> list[bytes]:
    """Tiles of both types, even and noisy; see ``oracles.check_tile`` for the six bytes before the blob."""
    rng = np.random.default_rng(0)
    cases = []
    for number, dtype in enumerate(DTYPES):
        for down, across, channels in ((0, 0, 1), (1, 2, 3), (4, 3, 2), (5, 5, 1)):
            shape = (SIDES[down], SIDES[across], channels)
            for largest in (0, 3, np.iinfo(dtype).max):
                tile = rng.integers(0, largest, shape, dtype, endpoint=True)
                head = (down, across, channels - 1)
                cases.append(bytes((*head, number, 1, 1)) + encode_tile(tile))
                cases.append(bytes((*head, number | 2, 1, 1)) + tile.tobytes()[:64])
    return cases


def png_seeds() -> list[bytes]:
    """Grey, colours, alpha, a palette, 16 bits, one bit."""
    pixels = picture(5, 9)
    pictures = [Image.fromarray(pixels).convert(mode) for mode in ("L", "LA", "RGB", "RGBA", "P", "1")]
    pictures.append(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257))
    cases = []
    for one in pictures:
        file = io.BytesIO()
        one.save(file, "PNG")
        cases.append(file.getvalue())
    return cases


SEEDS = {"dds": dds_seeds, "tile": tile_seeds, "png": png_seeds}

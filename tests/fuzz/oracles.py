"""What must hold for any bytes that a reader is given; each tells whether it accepted them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pbrlib.data.shards.codec import decode_part, decode_tile, encode_tile
from pbrlib.errors import PbrError
from pbrlib.textures.dds import Block, Header, Masks, read_header
from pbrlib.textures.decode import read_picture, read_size
from tests.fuzz.seeds import DTYPES, SIDES, plain_dds

T = TypeVar("T")

_MOST_BYTES_FROM_ONE = 8  # BC1: eight bytes are 4 x 4 pixels of RGBA


def check_dds(data: bytes) -> bool:
    """A texture has what its header declares, whatever else the file says, and is bounded by its length."""
    path = _saved("case.dds", data)
    header, pixels = _tried(path, read_header), _tried(path, read_picture)
    if header is None or pixels is None:
        assert pixels is None, "pixels of a file whose header is refused"
        return False
    assert header.offset + header.top_bytes <= len(data), "pixels behind the end of the file"
    assert pixels.nbytes <= _MOST_BYTES_FROM_ONE * header.top_bytes
    channels = {Block.BC4: 1, Block.BC5: 2}.get(header.pixels, 4)  # type: ignore[call-overload]
    assert pixels.shape == (header.height, header.width, channels)
    assert pixels.dtype == np.uint8
    assert read_size(path) == pixels.shape[:2]
    assert np.array_equal(read_picture(path), pixels), "another picture the second time"
    top = data[header.offset : header.offset + header.top_bytes]
    _saved(path.name, plain_dds(top, pixels=header.pixels, width=header.width, height=header.height))
    assert np.array_equal(read_picture(path), pixels), "something undeclared changes the picture"
    if isinstance(header.pixels, Masks):
        _check_last_pixel(header, header.pixels, top, pixels)
    else:
        _check_last_block(header, header.pixels, top, pixels)
    return True


def check_png(data: bytes) -> bool:
    """A picture is RGBA of the size that the header alone gave."""
    path = _saved("case.png", data)
    size, pixels = _tried(path, read_size), _tried(path, read_picture)
    if pixels is None:
        return False
    assert pixels.shape == (*(size or ()), 4)
    assert pixels.dtype == np.uint8
    assert np.array_equal(read_picture(path), pixels), "another picture the second time"
    return True


def check_tile(data: bytes) -> bool:
    """A tile has its declared shape, equals its parts and its own encoding decoded.

    The case begins with the numbers of its sides, its channels, its type with what follows (a blob, or
    pixels to make one of), and the corner of a part.
    """
    if len(data) < 6:
        return False
    height, width = (SIDES[byte % len(SIDES)] for byte in data[:2])
    shape, dtype = (height, width, 1 + data[2] % 3), DTYPES[data[3] % 2]
    top, left = data[4] % height, data[5] % width
    blob = _blob_of(data[6:], shape=shape, dtype=dtype) if data[3] & 2 else memoryview(data)[6:]
    try:
        tile = decode_tile(blob, shape=shape, dtype=dtype)
    except PbrError as error:
        assert str(error).startswith("damaged tile (")
        assert not data[3] & 2, "what was just encoded does not decode"
        return False
    assert tile.shape == (shape[2], height, width)
    assert tile.dtype == dtype
    assert np.array_equal(decode_tile(blob, shape=shape, dtype=dtype), tile), "another tile the second time"
    again = encode_tile(tile.transpose(1, 2, 0))
    assert np.array_equal(decode_tile(again, shape=shape, dtype=dtype), tile), "encoding loses something"
    part = np.empty((shape[2], height - top, width - left), dtype)
    decode_part(blob, part, shape=shape, rows=(top, height), columns=(left, width))
    assert np.array_equal(part, tile[:, top:, left:]), "a part differs from the whole"
    return True


ORACLES = {"dds": check_dds, "tile": check_tile, "png": check_png}


def _blob_of(data: bytes, *, shape: tuple[int, int, int], dtype: str) -> bytes:
    """The encoding of a tile whose pixels are these bytes, over and over."""
    tile = np.resize(np.frombuffer(data or b"\0", np.uint8), shape).astype(dtype)
    if dtype == "uint16":
        tile *= 251  # into both bytes
    return encode_tile(tile)


def _check_last_block(header: Header, block: Block, top: bytes, pixels: np.ndarray[Any, Any]) -> None:
    """A block alone decodes to what it is at the lower right of the whole."""
    path = _saved("case.dds", plain_dds(top[-block.num_bytes :], pixels=block, width=4, height=4))
    rows, columns = (side - (side - 1) // 4 * 4 for side in (header.height, header.width))
    assert np.array_equal(read_picture(path)[:rows, :columns], pixels[-rows:, -columns:])


def _check_last_pixel(header: Header, masks: Masks, top: bytes, pixels: np.ndarray[Any, Any]) -> None:
    """A pixel is the whole number under its mask, scaled to 255; colours that are not stored are 0."""
    word = int.from_bytes(top[-masks.num_bytes :], "little")
    for channel, mask in enumerate(masks.channels):
        lowest = max(mask & -mask, 1)
        wanted = 255 * (word & mask) / mask if mask else 255 * (channel == 3)
        assert abs(int(pixels[-1, -1, channel]) - wanted) <= 0.5 + 1e-6, (channel, mask // lowest)


def _tried(path: Path, read: Callable[[Path], T]) -> T | None:
    """What a reader gives, or None where it refuses the file by name."""
    try:
        return read(path)
    except PbrError as error:
        assert str(error).startswith(f"{path}: "), f"an error without a place: {error}"
        return None


def _saved(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="pbr-fuzz-"))

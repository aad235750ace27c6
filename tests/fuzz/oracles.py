"""Properties that hold for any bytes given to a reader; each oracle returns whether they were accepted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pbrlib.data.shards.codec import decode_part, decode_tile, encode_tile
from pbrlib.errors import PbrError
from pbrlib.textures.dds import Header, read_header
from pbrlib.textures.decode import read_picture, read_size, read_texture
from pbrlib.textures.layouts import Block, Floats, Layout, Masks, Palette
from tests.fuzz.seeds import DTYPES, SIDES, plain_dds

T = TypeVar("T")

_MOST_BYTES_FROM_ONE = 8  # BC1: eight bytes are 4 x 4 pixels of RGBA


def check_dds(data: bytes) -> bool:
    """A texture has what its header declares, whatever else the file says, and is bounded by its length."""
    if not data.startswith(b"DDS "):
        return check_picture(data)
    path = _saved("case.dds", data)
    header, pixels = _tried(path, read_header), _tried(path, read_picture)
    if header is None or pixels is None:
        assert pixels is None, "pixels of a file whose header is refused"
        return False
    assert header.offset + header.top_bytes <= len(data), "pixels behind the end of the file"
    assert pixels.nbytes <= _MOST_BYTES_FROM_ONE * header.top_bytes
    assert pixels.shape == (header.height, header.width, _num_channels(header.layout))
    assert pixels.dtype == np.uint8
    assert read_size(path) == pixels.shape[:2]
    assert np.array_equal(read_picture(path), pixels), "another picture the second time"
    for use in ("colour", "normal"):
        assert read_texture(path, use=use).pixels.shape == pixels.shape  # type: ignore[arg-type]
    top = _unpadded(header, data)
    _saved(path.name, plain_dds(top, layout=header.layout, width=header.width, height=header.height))
    assert np.array_equal(read_picture(path), pixels), "something undeclared changes the picture"
    if not header.layout.premultiplied:  # which looks at the whole
        _check_last(header, top, pixels)
    return True


def check_picture(data: bytes) -> bool:
    """A picture is RGBA of the size that the header alone gave, turned by a quarter at most."""
    path = _saved("case.png", data)
    size, pixels = _tried(path, read_size), _tried(path, read_picture)
    if pixels is None:
        return False
    assert size is not None, "pixels of a file without a size"
    assert pixels.shape in ((*size, 4), (*size[::-1], 4))
    assert pixels.dtype == np.uint8
    assert np.array_equal(read_picture(path), pixels), "another picture the second time"
    colour = _tried(path, lambda file: read_texture(file, use="colour"))
    assert colour is not None and colour.pixels.shape == pixels.shape
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


ORACLES = {"dds": check_dds, "tile": check_tile, "picture": check_picture}


def _blob_of(data: bytes, *, shape: tuple[int, int, int], dtype: str) -> bytes:
    """The encoding of a tile whose pixels are these bytes, over and over."""
    tile = np.resize(np.frombuffer(data or b"\0", np.uint8), shape).astype(dtype)
    if dtype == "uint16":
        tile *= 251  # into both bytes
    return encode_tile(tile)


def _num_channels(layout: Layout) -> int:
    """Return the number of decoded channels of a layout: two if only red and green are stored."""
    match layout.pixels:
        case Block():
            return len(layout.swizzle) or {Block.BC4: 1, Block.BC5: 2}.get(layout.pixels, 4)
        case Floats(_, channels):
            return channels if channels < 3 else 4
        case Masks(_, (red, green, 0, 0)) if red and green:
            return 2
        case _:
            return 4


def _unpadded(header: Header, data: bytes) -> bytes:
    """The bytes of the largest level without what fills up its rows."""
    top = data[header.offset : header.offset + header.top_bytes]
    if isinstance(header.pixels, Block):
        return top
    rows = np.frombuffer(top, np.uint8).reshape(header.height, -1)
    return rows[:, : header.width * header.pixels.num_bytes].tobytes()


def _check_last(header: Header, top: bytes, pixels: np.ndarray[Any, Any]) -> None:
    match header.pixels:
        case Block() as block:
            _check_last_block(header, block, top, pixels)
        case Masks() as masks:
            _check_last_pixel(header, masks, top, pixels)
        case Palette() as palette:
            assert bytes(pixels[-1, -1]) == palette.colours[4 * top[-1] : 4 * top[-1] + 4]
        case Floats() as floats:
            kind = {2: "<f2", 4: "<f4"}[floats.channel_bytes]
            last = np.frombuffer(top[-floats.num_bytes :], kind).astype(np.float64)
            wanted = 255 * np.clip(np.where(np.isnan(last), 0.0, last), 0.0, 1.0)
            assert np.abs(pixels[-1, -1, : floats.num_channels] - wanted).max() <= 0.5 + 1e-4


def _check_last_block(header: Header, block: Block, top: bytes, pixels: np.ndarray[Any, Any]) -> None:
    """A block alone decodes to what it is at the lower right of the whole."""
    alone = plain_dds(top[-block.num_bytes :], layout=header.layout, width=4, height=4)
    path = _saved("case.dds", alone)
    rows, columns = (side - (side - 1) // 4 * 4 for side in (header.height, header.width))
    assert np.array_equal(read_picture(path)[:rows, :columns], pixels[-rows:, -columns:])


def _check_last_pixel(header: Header, masks: Masks, top: bytes, pixels: np.ndarray[Any, Any]) -> None:
    """A pixel is the number under its mask, scaled to 255; colours that are not stored are 0."""
    word = int.from_bytes(top[-masks.num_bytes :], "little")
    for channel, mask in enumerate(masks.channels[: pixels.shape[-1]]):
        lowest = max(mask & -mask, 1)
        number, largest = (word & mask) // lowest, mask // lowest
        half = largest // 2 + 1
        narrower = channel == 3 and mask.bit_count() != masks.channels[0].bit_count()
        if mask and header.layout.signed and not narrower:
            with_sign = number - 2 * half if number >= half else number
            wanted = (max(with_sign / max(half - 1, 1), -1) + 1) * 127.5
        else:
            wanted = 255 * number / largest if mask else 255 * (channel == 3)
        slack = 0.5 if mask.bit_count() <= 16 else 0.51  # of a longer number the first 16 bits are taken
        assert abs(int(pixels[-1, -1, channel]) - wanted) <= slack + 1e-6, (channel, mask)


def _tried(path: Path, read: Callable[[Path], T]) -> T | None:
    """Return the result of a reader, or None if it rejects the file with an error."""
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

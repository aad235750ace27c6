"""The DDS container: a header that is checked before anything is allocated, and the header we write.

Source of the layout and of the constants: Microsoft, "Programming Guide for DDS" and "DXGI_FORMAT".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from pbrlib.errors import DataError

MAX_SIZE = 16384
"""The longest side, in pixels, of a texture that any graphics card of the game's age and ours can load."""

_MAGIC = b"DDS "
_HEADER = struct.Struct("<4s7I44x2I4s5I5I")  # magic, size .. mip count, pixel format, caps 1-4 and reserved
_EXTENSION = struct.Struct("<5I")  # DXGI format, dimension, misc flag, array size, misc flags 2

_DDSD_REQUIRED = 0x1 | 0x2 | 0x4 | 0x1000  # caps, height, width, pixel format
_DDSD_MIPS, _DDSD_LINEAR_SIZE = 0x20000, 0x80000
_DDPF_ALPHA, _DDPF_FOURCC, _DDPF_RGB, _DDPF_LUMINANCE = 0x1, 0x4, 0x40, 0x20000
_DDSCAPS_COMPLEX, _DDSCAPS_TEXTURE, _DDSCAPS_MIPS = 0x8, 0x1000, 0x400000
_DDSCAPS2_CUBEMAP, _DDSCAPS2_VOLUME = 0xFE00, 0x200000
_TEXTURE_2D, _MISC_CUBE = 3, 0x4


class Block(Enum):
    """Block compressions: the number names the codec; a block covers 4 x 4 pixels."""

    BC1 = 1
    BC2 = 2
    BC3 = 3
    BC4 = 4
    BC5 = 5
    BC7 = 7

    @property
    def num_bytes(self) -> int:
        """Bytes of one block."""
        return 8 if self in (Block.BC1, Block.BC4) else 16


@dataclass(frozen=True)
class Masks:
    """An uncompressed pixel: its bytes, and the bits of red, green, blue and alpha in it.

    A luminance pixel has three equal colour masks; a mask of 0 is a channel that is not stored.
    """

    num_bytes: int
    channels: tuple[int, int, int, int]


@dataclass(frozen=True)
class Header:
    """What a DDS file says of itself; every field has been checked against the length of the file."""

    width: int
    height: int
    num_mips: int
    pixels: Block | Masks
    offset: int

    @property
    def top_bytes(self) -> int:
        """Bytes of the largest mip level."""
        return level_bytes(self.pixels, self.width, self.height)


_FOUR_CC = {
    b"DXT1": Block.BC1,
    b"DXT2": Block.BC2,
    b"DXT3": Block.BC2,
    b"DXT4": Block.BC3,
    b"DXT5": Block.BC3,
    b"ATI1": Block.BC4,
    b"BC4U": Block.BC4,
    b"ATI2": Block.BC5,
    b"BC5U": Block.BC5,
}
_RGBA = Masks(4, (0xFF, 0xFF00, 0xFF0000, 0xFF000000))
_BGRA = Masks(4, (0xFF0000, 0xFF00, 0xFF, 0xFF000000))
_BGRX = Masks(4, (0xFF0000, 0xFF00, 0xFF, 0))
_R8 = Masks(1, (0xFF, 0xFF, 0xFF, 0))
_DXGI: dict[int, Block | Masks] = {
    **dict.fromkeys((27, 28, 29), _RGBA),
    **dict.fromkeys((87, 90, 91), _BGRA),
    **dict.fromkeys((88, 92, 93), _BGRX),
    **dict.fromkeys((60, 61), _R8),
    **dict.fromkeys((70, 71, 72), Block.BC1),
    **dict.fromkeys((73, 74, 75), Block.BC2),
    **dict.fromkeys((76, 77, 78), Block.BC3),
    **dict.fromkeys((79, 80), Block.BC4),
    **dict.fromkeys((82, 83), Block.BC5),
    **dict.fromkeys((97, 98, 99), Block.BC7),
}
_LINEAR_CODE = {Block.BC1: 71, Block.BC2: 74, Block.BC3: 77, Block.BC4: 80, Block.BC5: 83, Block.BC7: 98}
_SRGB_CODE = {Block.BC1: 72, Block.BC2: 75, Block.BC3: 78, Block.BC7: 99}


def full_chain(width: int, height: int) -> int:
    """Mip levels from the given size down to 1 x 1."""
    return max(width, height).bit_length()


def level_bytes(pixels: Block | Masks, width: int, height: int) -> int:
    """Bytes of one mip level; blocks are whole, rows of uncompressed pixels are not padded."""
    if isinstance(pixels, Block):
        return -(-width // 4) * -(-height // 4) * pixels.num_bytes
    return width * height * pixels.num_bytes


def read_header(path: Path) -> Header:
    """Reads and checks a header without reading the pixels.

    Raises:
        DataError: not a DDS file, a format that is not read, sizes or mip counts that cannot be, or a
            file shorter than its header says. The message names the file and the field.
    """
    try:
        with path.open("rb") as file:
            return _parse(path, file, path.stat().st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error


def read_top(path: Path) -> tuple[Header, bytes]:
    """The header and the bytes of the largest mip level; raises DataError as ``read_header`` does."""
    header = read_header(path)
    try:
        with path.open("rb") as file:
            file.seek(header.offset)
            data = file.read(header.top_bytes)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error
    if len(data) != header.top_bytes:
        raise DataError(f"{path}: ends inside the pixels. Copy it again.")
    return header, data


def _parse(path: Path, file: BinaryIO, num_bytes: int) -> Header:
    raw = file.read(_HEADER.size)
    if raw[:4] != _MAGIC:
        raise DataError(f"{path}: starts with {raw[:4]!r}, not 'DDS '. It is not a DDS texture.")
    if len(raw) < _HEADER.size:
        raise DataError(f"{path}: header of {len(raw)} bytes, {_HEADER.size} are needed. Copy it again.")
    fields = _HEADER.unpack(raw)
    _, size, _, height, width, _, depth, mips, format_size = fields[:9]
    caps2 = fields[17]
    for name, value, wanted in (("header size", size, 124), ("pixel format size", format_size, 32)):
        if value != wanted:
            raise DataError(f"{path}: {name} {value}, always {wanted} in a DDS file. The file is damaged.")
    for name, value in (("width", width), ("height", height)):
        if not 1 <= value <= MAX_SIZE:
            raise DataError(f"{path}: {name} {value} is not in 1..{MAX_SIZE}. The file is damaged.")
    if mips > full_chain(width, height):
        raise DataError(
            f"{path}: mip count {mips}, a chain of {width} x {height} has {full_chain(width, height)}. "
            "The file is damaged."
        )
    if caps2 & _DDSCAPS2_CUBEMAP or (caps2 & _DDSCAPS2_VOLUME and depth > 1):
        raise DataError(f"{path}: caps2 {caps2:#x} is a cube map or a volume. Only flat textures convert.")
    pixels, offset = _pixels(path, file, fields[9:16])
    header = Header(width=width, height=height, num_mips=max(mips, 1), pixels=pixels, offset=offset)
    needed = offset + sum(
        level_bytes(pixels, max(width >> level, 1), max(height >> level, 1))
        for level in range(header.num_mips)
    )
    if num_bytes < needed:
        raise DataError(
            f"{path}: {num_bytes} bytes, {needed} are needed for {width} x {height} pixels with "
            f"{header.num_mips} mips. It was cut off: copy it again."
        )
    return header


def _pixels(path: Path, file: BinaryIO, fields: tuple[Any, ...]) -> tuple[Block | Masks, int]:
    flags, four_cc, bits, *channels = fields
    if flags & _DDPF_FOURCC:
        if four_cc == b"DX10":
            return _extended(path, file), _HEADER.size + _EXTENSION.size
        if four_cc not in _FOUR_CC:
            raise DataError(
                f"{path}: FourCC {four_cc!r} is not read. Save it as BC1, BC3, BC5, BC7 or uncompressed."
            )
        return _FOUR_CC[four_cc], _HEADER.size
    if not flags & (_DDPF_RGB | _DDPF_LUMINANCE) or bits not in (8, 16, 24, 32):
        raise DataError(
            f"{path}: pixel format flags {flags:#x} with {bits} bits is not read. "
            "Save it as BC1, BC3, BC5, BC7 or uncompressed."
        )
    if flags & _DDPF_LUMINANCE:
        channels[1] = channels[2] = channels[0]
    if not flags & _DDPF_ALPHA:
        channels[3] = 0
    for channel, mask in zip("RGBA", channels, strict=True):
        ones = mask >> (mask & -mask).bit_length() - 1 if mask else 0
        if ones & (ones + 1) or mask >> bits:
            raise DataError(f"{path}: mask {mask:#x} of channel {channel} is not one run of {bits} bits.")
    if not any(channels[:3]):
        raise DataError(f"{path}: masks without a colour channel. Save it with colours.")
    red, green, blue, alpha = channels
    return Masks(bits // 8, (red, green, blue, alpha)), _HEADER.size


def _extended(path: Path, file: BinaryIO) -> Block | Masks:
    raw = file.read(_EXTENSION.size)
    if len(raw) < _EXTENSION.size:
        raise DataError(f"{path}: ends inside the DX10 header. Copy it again.")
    code, dimension, misc, array_size, _ = _EXTENSION.unpack(raw)
    if dimension != _TEXTURE_2D or misc & _MISC_CUBE or array_size != 1:
        raise DataError(
            f"{path}: DX10 dimension {dimension}, misc flag {misc:#x}, array size {array_size}: "
            "only one flat texture per file converts."
        )
    if code not in _DXGI:
        raise DataError(f"{path}: DXGI format {code} is not read. Save it as BC1, BC3, BC5, BC7 or RGBA8.")
    return _DXGI[code]


def build(levels: Sequence[bytes], *, width: int, height: int, block: Block, srgb: bool) -> bytes:
    """A whole DDS file with a DX10 header, so that the colour space is said.

    Args:
        levels: the compressed mip levels, largest first.
        width: pixels of the largest level, a multiple of 4.
        height: pixels of the largest level, a multiple of 4.
        block: the compression of the levels.
        srgb: True for colours (sRGB transfer curve), False for data.
    """
    assert width % 4 == 0 and height % 4 == 0, f"{width} x {height}"
    assert len(levels) == full_chain(width, height), "a chain down to 1 x 1 is written"
    code = _SRGB_CODE[block] if srgb else _LINEAR_CODE[block]
    pixel_format = (32, _DDPF_FOURCC, b"DX10", 0, 0, 0, 0, 0)
    caps = (_DDSCAPS_TEXTURE | _DDSCAPS_COMPLEX | _DDSCAPS_MIPS, 0, 0, 0, 0)
    flags = _DDSD_REQUIRED | _DDSD_MIPS | _DDSD_LINEAR_SIZE
    top = level_bytes(block, width, height)
    header = _HEADER.pack(_MAGIC, 124, flags, height, width, top, 1, len(levels), *pixel_format, *caps)
    return header + _EXTENSION.pack(code, _TEXTURE_2D, 0, 1, 0) + b"".join(levels)

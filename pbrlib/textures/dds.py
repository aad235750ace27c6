"""The DDS container: a header that is checked before anything is allocated, and the header we write.

A file is read whenever its largest level is whole and can be told apart from a cube map, a volume or an
array: writers get the other fields wrong, and no reader of pixels needs them. What is odd is noted.

Source of the layout and of the constants: Microsoft, "Programming Guide for DDS".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pbrlib.errors import DataError
from pbrlib.textures.formats import D3D, dxgi_layout, dxgi_name, four_cc_layout, four_cc_name, masks_name
from pbrlib.textures.layouts import Block, Layout, Masks, Palette, Pixels, full_chain, level_bytes

MAX_SIZE = 16384
"""The longest side, in pixels, of a texture that any graphics card of the game's age and ours can load."""

MAGIC = b"DDS "
_HEADER = struct.Struct("<4s7I44x2I4s5I5I")  # magic, size .. mip count, pixel format, caps 1-4 and reserved
_EXTENSION = struct.Struct("<5I")  # DXGI format, dimension, misc flag, array size, misc flags 2

_SIZE, _FORMAT_SIZE = 124, 32
_DDSD_REQUIRED = 0x1 | 0x2 | 0x4 | 0x1000  # caps, height, width, pixel format
_DDSD_PITCH, _DDSD_MIPS, _DDSD_LINEAR_SIZE, _DDSD_DEPTH = 0x8, 0x20000, 0x80000, 0x800000
_DDPF_ALPHA, _DDPF_ALPHA_ONLY, _DDPF_FOURCC, _DDPF_PALETTE, _DDPF_YUV = 0x1, 0x2, 0x4, 0x20, 0x200
_DDPF_OTHER_PALETTES = 0x8 | 0x10 | 0x800 | 0x1000  # of 4, 1 and 2 bits, and one that points into another
_DDPF_RGB, _DDPF_LUMINANCE, _DDPF_BUMP_LUMINANCE, _DDPF_BUMP = 0x40, 0x20000, 0x40000, 0x80000
_DDSCAPS_COMPLEX, _DDSCAPS_TEXTURE, _DDSCAPS_MIPS = 0x8, 0x1000, 0x400000
_DDSCAPS2_CUBEMAP, _DDSCAPS2_FACES, _DDSCAPS2_VOLUME = 0x200, 0xFC00, 0x200000
_TEXTURE_2D, _TEXTURE_3D, _MISC_CUBE = 3, 4, 0x4
_ALPHA_MODE, _PREMULTIPLIED = 0x7, 2
_PALETTE_BYTES = 1024

_DX10 = b"DX10"

_SAVE_AS = "Save it as BC7 or as uncompressed RGBA8."
_CUT_OFF = "The file was cut off: copy or download it again."


@dataclass(frozen=True)
class Header:
    """What a DDS file says of itself; every field has been checked against the length of the file.

    Attributes:
        num_mips: The levels that are whole in the file.
        layout: The form of the pixels.
        offset: Where they begin.
        row_bytes: The length of a row of uncompressed pixels in the file, which may be padded; 0 of blocks.
        notes: What is odd about the header; the pixels are not touched by it.
    """

    width: int
    height: int
    num_mips: int
    layout: Layout
    offset: int
    row_bytes: int
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> Pixels:
        """How a pixel or a block is stored."""
        return self.layout.pixels

    @property
    def top_bytes(self) -> int:
        """Bytes of the largest mip level."""
        return self.row_bytes * self.height or level_bytes(self.pixels, self.width, self.height)


def read_header(path: Path) -> Header:
    """Reads and checks a header without reading the pixels.

    Raises:
        DataError: not a DDS file, a format that is not read, a cube map, a volume, an array, a size that
            cannot be, or a file that ends inside its largest level. The message names the file and the field.
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
        raise DataError(f"{path}: ends inside the pixels. {_CUT_OFF}")
    return header, data


def _parse(path: Path, file: BinaryIO, num_bytes: int) -> Header:
    raw = file.read(_HEADER.size)
    if raw[:4] != MAGIC:
        raise DataError(f"{path}: got a file that starts with {raw[:4]!r}; expected 'DDS '. Check the file.")
    if len(raw) < _HEADER.size:
        raise DataError(f"{path}: got a header of {len(raw)} bytes; expected {_HEADER.size}. {_CUT_OFF}")
    fields = _HEADER.unpack(raw)
    _, size, flags, height, width, pitch, depth, mips, format_size = fields[:9]
    for name, value in (("width", width), ("height", height)):
        if not 1 <= value <= MAX_SIZE:
            raise DataError(f"{path}: got {name} {value}; expected 1..{MAX_SIZE}. The header is damaged.")
    notes = [
        f"{name} {value} instead of {wanted}"
        for name, value, wanted in (
            ("header size", size, _SIZE),
            ("pixel format size", format_size, _FORMAT_SIZE),
        )
        if value != wanted
    ]
    layout, offset, is_3d = _layout(path, file, fields[9:16], notes)
    _refuse_cubes_and_volumes(path, flags=flags, caps2=fields[17], depth=depth, is_3d=is_3d)
    row_bytes = 0
    if not isinstance(layout.pixels, Block):
        row_bytes = width * layout.pixels.num_bytes
        padded = -(-row_bytes // 4) * 4
        if flags & _DDSD_PITCH and pitch == padded and num_bytes - offset == padded * height:
            row_bytes = padded  # writers of old filled rows up to 4 bytes, where the guide wants none
    top = row_bytes * height or level_bytes(layout.pixels, width, height)
    if num_bytes < offset + top:
        raise DataError(
            f"{path}: got {num_bytes} bytes; expected at least {offset + top} for {width} x {height} pixels "
            f"of {layout.name}. {_CUT_OFF}"
        )
    whole = _whole_levels(layout.pixels, width, height, mips, num_bytes - offset, notes)
    return Header(width, height, whole, layout, offset, row_bytes, tuple(notes))


def _whole_levels(
    pixels: Pixels, width: int, height: int, mips: int, num_bytes: int, notes: list[str]
) -> int:
    """How many of the levels that the header announces are whole in the file."""
    chain = full_chain(width, height)
    if mips > chain:
        notes.append(f"mip count {mips}, where a chain of {width} x {height} has {chain}")
    announced = min(max(mips, 1), chain)
    for level in range(announced):
        num_bytes -= level_bytes(pixels, max(width >> level, 1), max(height >> level, 1))
        if num_bytes < 0:
            notes.append(f"{level} whole mip levels of {announced} announced")
            return max(level, 1)
    return announced


def _refuse_cubes_and_volumes(path: Path, *, flags: int, caps2: int, depth: int, is_3d: bool) -> None:
    if caps2 & (_DDSCAPS2_CUBEMAP | _DDSCAPS2_FACES):
        count = (caps2 & _DDSCAPS2_FACES).bit_count() or 6
        faces = "1 face" if count == 1 else f"{count} faces"
        raise DataError(
            f"{path}: got a cube map of {faces}; expected a flat texture. Save the face as a file."
        )
    if depth > 1 and (is_3d or caps2 & _DDSCAPS2_VOLUME or flags & _DDSD_DEPTH):
        raise DataError(
            f"{path}: got a volume of {depth} slices; expected a flat texture. Save the slice as a file."
        )


def _layout(
    path: Path, file: BinaryIO, fields: tuple[Any, ...], notes: list[str]
) -> tuple[Layout, int, bool]:
    """The layout, the offset of the pixels, and whether a DX10 header calls them a volume."""
    flags, four_cc, bits, *channels = fields
    if flags & _DDPF_PALETTE and bits == 8:
        colours = file.read(_PALETTE_BYTES)
        if len(colours) < _PALETTE_BYTES:
            raise DataError(f"{path}: ends inside its palette. {_CUT_OFF}")
        if not flags & _DDPF_ALPHA:
            colours = b"".join(colours[n : n + 3] + b"\xff" for n in range(0, _PALETTE_BYTES, 4))
        return Layout("P8", Palette(colours)), _HEADER.size + _PALETTE_BYTES, False
    declared = bool(flags & _DDPF_FOURCC)
    known = four_cc == _DX10 or four_cc_layout(four_cc, b"") is not None
    if any(four_cc) and (declared or (known and not any(channels))):
        if not declared:
            notes.append(f"pixel format flags {flags:#x} without that of a FourCC")
        if four_cc == _DX10:
            layout, is_3d = _extended(path, file, notes)
            return layout, _HEADER.size + _EXTENSION.size, is_3d
        found = four_cc_layout(four_cc, bits.to_bytes(4, "little"))
        if found is None:
            raise DataError(f"{path}: got FourCC {four_cc_name(four_cc)}, which is not read. {_SAVE_AS}")
        return found, _HEADER.size, False
    if not any(channels) and (assumed := _without_masks(flags, bits)):
        notes.append(f"no masks: taken as {assumed.name}")
        return assumed, _HEADER.size, False
    return _masked(path, flags, bits, channels), _HEADER.size, False


def _without_masks(flags: int, bits: int) -> Layout | None:
    """What writers mean that leave out the masks; None where several formats have these flags and bits."""
    grey, has_alpha = bool(flags & _DDPF_LUMINANCE), bool(flags & _DDPF_ALPHA)
    number = {
        (True, 8, False): 50,
        (True, 16, False): 81,
        (True, 16, True): 51,
        (False, 24, False): 20,
        (False, 32, False): 22,
        (False, 32, True): 21,
    }.get((grey, bits, has_alpha))
    return D3D[number] if number and flags & (_DDPF_LUMINANCE | _DDPF_RGB) else None


def _masked(path: Path, flags: int, bits: int, channels: list[int]) -> Layout:
    if flags & (_DDPF_YUV | _DDPF_PALETTE | _DDPF_OTHER_PALETTES):
        what = "YUV pixels" if flags & _DDPF_YUV else f"numbers of {bits} bits in a palette"
        raise DataError(f"{path}: got {what}, which are not read. {_SAVE_AS}")
    if bits not in (8, 16, 24, 32):
        raise DataError(f"{path}: got {bits} bits a pixel (flags {flags:#x}), which are not read. {_SAVE_AS}")
    signed = bool(flags & (_DDPF_BUMP | _DDPF_BUMP_LUMINANCE))
    for channel, mask in zip("RGBA", channels, strict=True):
        ones = mask >> (mask & -mask).bit_length() - 1 if mask else 0
        if ones & (ones + 1) or mask >> bits:
            raise DataError(
                f"{path}: got mask {mask:#x} of channel {channel}; expected one run of bits. {_SAVE_AS}"
            )
    *colours, alpha = channels
    if flags & _DDPF_BUMP_LUMINANCE:
        colours[2] = 0  # luminance, no direction
    stored = sorted({mask for mask in colours if mask})
    if not stored and alpha and flags & (_DDPF_ALPHA | _DDPF_ALPHA_ONLY):
        layout = D3D[28]
        return layout if bits == 8 else Layout(layout.name, Masks(bits // 8, (alpha, alpha, alpha, 0)))
    if not stored:
        raise DataError(f"{path}: got no mask of a colour (flags {flags:#x}). {_SAVE_AS}")
    if len(stored) == 1:  # grey, whether the flags say luminance or RGB
        colours = stored * 3
    red, green, blue = colours
    masks = Masks(bits // 8, (red, green, blue, alpha if flags & _DDPF_ALPHA or signed else 0))
    return Layout(masks_name(masks, signed=signed), masks, signed=signed)


def _extended(path: Path, file: BinaryIO, notes: list[str]) -> tuple[Layout, bool]:
    raw = file.read(_EXTENSION.size)
    if len(raw) < _EXTENSION.size:
        raise DataError(f"{path}: ends inside its DX10 header. {_CUT_OFF}")
    code, dimension, misc, array_size, misc_2 = _EXTENSION.unpack(raw)
    if misc & _MISC_CUBE:
        raise DataError(f"{path}: got a cube map; expected a flat texture. Save the face as a file.")
    if array_size > 1:
        raise DataError(
            f"{path}: got an array of {array_size} textures; expected one. Save each as a file of its own."
        )
    odd = (("dimension", dimension, (_TEXTURE_2D, _TEXTURE_3D)), ("array size", array_size, (1,)))
    notes += [f"DX10 {name} {value} instead of {good[0]}" for name, value, good in odd if value not in good]
    layout = dxgi_layout(code)
    if layout is None:
        raise DataError(f"{path}: got DXGI format {dxgi_name(code)}, which is not read. {_SAVE_AS}")
    premultiplied = misc_2 & _ALPHA_MODE == _PREMULTIPLIED
    return Layout(layout.name, layout.pixels, signed=layout.signed, premultiplied=premultiplied), (
        dimension == _TEXTURE_3D
    )


_LINEAR_CODE = {Block.BC1: 71, Block.BC2: 74, Block.BC3: 77, Block.BC4: 80, Block.BC5: 83, Block.BC7: 98}
_SRGB_CODE = {Block.BC1: 72, Block.BC2: 75, Block.BC3: 78, Block.BC7: 99}


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
    pixel_format = (_FORMAT_SIZE, _DDPF_FOURCC, _DX10, 0, 0, 0, 0, 0)
    caps = (_DDSCAPS_TEXTURE | _DDSCAPS_COMPLEX | _DDSCAPS_MIPS, 0, 0, 0, 0)
    flags = _DDSD_REQUIRED | _DDSD_MIPS | _DDSD_LINEAR_SIZE
    top = level_bytes(block, width, height)
    header = _HEADER.pack(MAGIC, _SIZE, flags, height, width, top, 1, len(levels), *pixel_format, *caps)
    return header + _EXTENSION.pack(code, _TEXTURE_2D, 0, 1, 0) + b"".join(levels)

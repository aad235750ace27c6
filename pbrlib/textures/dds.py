"""Reads and writes headers of DDS files; a header is checked before memory is allocated for the pixels.

A file is accepted if its largest mip level is complete and it is not a cube map, a volume or an array. Other
fields are often written incorrectly and are not needed to read the pixels; a wrong value becomes a note.

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
from pbrlib.textures.layouts import Block, Layout, Masks, Palette, Pixels, level_bytes, num_mip_levels

MAX_SIZE = 16384
"""Maximum side of a texture in pixels: the limit of Direct3D 11 graphics cards."""

MAGIC = b"DDS "
_HEADER = struct.Struct("<4s7I44x2I4s5I5I")  # magic, size .. mip count, pixel format, caps 1-4 and reserved
_DX10_HEADER = struct.Struct("<5I")  # DXGI format, dimension, misc flag, array size, misc flags 2

_SIZE, _FORMAT_SIZE = 124, 32
_DDSD_REQUIRED = 0x1 | 0x2 | 0x4 | 0x1000  # caps, height, width, pixel format
_DDSD_PITCH, _DDSD_MIPS, _DDSD_LINEAR_SIZE, _DDSD_DEPTH = 0x8, 0x20000, 0x80000, 0x800000
_DDPF_ALPHA, _DDPF_ALPHA_ONLY, _DDPF_FOURCC, _DDPF_PALETTE, _DDPF_YUV = 0x1, 0x2, 0x4, 0x20, 0x200
_DDPF_OTHER_PALETTES = (
    0x8 | 0x10 | 0x800 | 0x1000
)  # palettes of 4, 1 and 2 bits, and a palette of indices into another palette
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
    """The header of a DDS file; every field has been checked against the length of the file.

    Attributes:
        width: Width of the largest level in pixels.
        height: Height of the largest level in pixels.
        num_mips: Number of mip levels that the file contains completely.
        layout: How pixels are stored.
        offset: Position of the pixels in the file, in bytes.
        row_bytes: Length of a row of uncompressed pixels in the file, with padding; 0 for blocks.
        notes: Wrong values in the header that do not affect the pixels.
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
        """Return how a pixel or a block is stored."""
        return self.layout.pixels

    @property
    def top_bytes(self) -> int:
        """Return the number of bytes of the largest mip level."""
        return self.row_bytes * self.height or level_bytes(self.pixels, self.width, self.height)


def read_header(path: Path) -> Header:
    """Read and check a header without reading the pixels.

    Raises:
        DataError: The file is no DDS file, has an unsupported format or an invalid size, is a cube map, a
            volume or an array, or ends inside its largest level. The message names the file and the field.
    """
    try:
        with path.open("rb") as file:
            return _parse_header(path, file, path.stat().st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error


def read_largest_level(path: Path) -> tuple[Header, bytes]:
    """Return the header and the bytes of the largest mip level; raises DataError as ``read_header`` does."""
    header = read_header(path)
    try:
        with path.open("rb") as file:
            file.seek(header.offset)
            data = file.read(header.top_bytes)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error
    if len(data) != header.top_bytes:
        raise DataError(f"{path}: got {len(data)} bytes of pixels; expected {header.top_bytes}. {_CUT_OFF}")
    return header, data


def _parse_header(path: Path, file: BinaryIO, num_bytes: int) -> Header:
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
    layout, offset, is_3d = _read_layout(path, file, fields[9:16], notes)
    _refuse_cubes_and_volumes(path, flags=flags, caps2=fields[17], depth=depth, is_3d=is_3d)
    row_bytes = 0
    if not isinstance(layout.pixels, Block):
        row_bytes = width * layout.pixels.num_bytes
        padded = -(-row_bytes // 4) * 4
        if flags & _DDSD_PITCH and pitch == padded and num_bytes - offset == padded * height:
            row_bytes = padded  # some older writers pad rows to multiples of 4 bytes, which the guide forbids
    top = row_bytes * height or level_bytes(layout.pixels, width, height)
    if num_bytes < offset + top:
        raise DataError(
            f"{path}: got {num_bytes} bytes; expected at least {offset + top} for {width} x {height} pixels "
            f"of {layout.name}. {_CUT_OFF}"
        )
    num_mips = _count_complete_levels(layout.pixels, width, height, mips, num_bytes - offset, notes)
    return Header(width, height, num_mips, layout, offset, row_bytes, tuple(notes))


def _count_complete_levels(
    pixels: Pixels, width: int, height: int, mips: int, num_bytes: int, notes: list[str]
) -> int:
    """Return how many of the mip levels that the header declares are complete in the file."""
    maximum = num_mip_levels(width, height)
    if mips > maximum:
        notes.append(f"mip count {mips}; {width} x {height} px have at most {maximum}")
    declared = min(max(mips, 1), maximum)
    for level in range(declared):
        num_bytes -= level_bytes(pixels, max(width >> level, 1), max(height >> level, 1))
        if num_bytes < 0:
            notes.append(f"{level} complete mip levels of {declared} declared")
            return max(level, 1)
    return declared


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


def _read_layout(
    path: Path, file: BinaryIO, fields: tuple[Any, ...], notes: list[str]
) -> tuple[Layout, int, bool]:
    """Return the layout, the offset of the pixels, and whether a DX10 header declares a volume."""
    flags, four_cc, bits, *channels = fields
    if flags & _DDPF_PALETTE and bits == 8:
        colours = file.read(_PALETTE_BYTES)
        if len(colours) < _PALETTE_BYTES:
            raise DataError(
                f"{path}: got {len(colours)} bytes of palette; expected {_PALETTE_BYTES}. {_CUT_OFF}"
            )
        if not flags & _DDPF_ALPHA:
            colours = b"".join(colours[n : n + 3] + b"\xff" for n in range(0, _PALETTE_BYTES, 4))
        return Layout("P8", Palette(colours)), _HEADER.size + _PALETTE_BYTES, False
    declared = bool(flags & _DDPF_FOURCC)
    known = four_cc == _DX10 or four_cc_layout(four_cc, b"") is not None
    if any(four_cc) and (declared or (known and not any(channels))):
        if not declared:
            notes.append(f"pixel format flags {flags:#x} without the flag of a FourCC")
        if four_cc == _DX10:
            layout, is_3d = _read_dx10_header(path, file, notes)
            return layout, _HEADER.size + _DX10_HEADER.size, is_3d
        found = four_cc_layout(four_cc, bits.to_bytes(4, "little"))
        if found is None:
            raise DataError(f"{path}: got FourCC {four_cc_name(four_cc)}, which is not supported. {_SAVE_AS}")
        return found, _HEADER.size, False
    if not any(channels) and (assumed := _default_layout(flags, bits)):
        notes.append(f"no channel masks; read as {assumed.name}")
        return assumed, _HEADER.size, False
    return _masked_layout(path, flags, bits, channels), _HEADER.size, False


def _default_layout(flags: int, bits: int) -> Layout | None:
    """Return the usual layout for a header without masks; None if the flags and bits fit several formats."""
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


def _masked_layout(path: Path, flags: int, bits: int, channels: list[int]) -> Layout:
    if flags & (_DDPF_YUV | _DDPF_PALETTE | _DDPF_OTHER_PALETTES):
        kind = "YUV pixels" if flags & _DDPF_YUV else f"palette indices of {bits} bits"
        raise DataError(f"{path}: got {kind}, which are not supported. {_SAVE_AS}")
    if bits not in (8, 16, 24, 32):
        raise DataError(
            f"{path}: got {bits} bits per pixel (flags {flags:#x}); expected 8, 16, 24 or 32. {_SAVE_AS}"
        )
    signed = bool(flags & (_DDPF_BUMP | _DDPF_BUMP_LUMINANCE))
    for channel, mask in zip("RGBA", channels, strict=True):
        ones = mask >> (mask & -mask).bit_length() - 1 if mask else 0
        if ones & (ones + 1) or mask >> bits:
            raise DataError(
                f"{path}: got mask {mask:#x} of channel {channel}; expected adjacent bits. {_SAVE_AS}"
            )
    *colours, alpha = channels
    if flags & _DDPF_BUMP_LUMINANCE:
        colours[2] = 0  # this channel is luminance and no part of the direction
    stored = sorted({mask for mask in colours if mask})
    if not stored and alpha and flags & (_DDPF_ALPHA | _DDPF_ALPHA_ONLY):
        layout = D3D[28]
        return layout if bits == 8 else Layout(layout.name, Masks(bits // 8, (alpha, alpha, alpha, 0)))
    if not stored:
        raise DataError(f"{path}: got no colour mask (flags {flags:#x}); expected at least one. {_SAVE_AS}")
    if len(stored) == 1:  # grey, with flags of luminance or of RGB
        colours = stored * 3
    red, green, blue = colours
    masks = Masks(bits // 8, (red, green, blue, alpha if flags & _DDPF_ALPHA or signed else 0))
    return Layout(masks_name(masks, signed=signed), masks, signed=signed)


def _read_dx10_header(path: Path, file: BinaryIO, notes: list[str]) -> tuple[Layout, bool]:
    raw = file.read(_DX10_HEADER.size)
    if len(raw) < _DX10_HEADER.size:
        raise DataError(
            f"{path}: got {len(raw)} bytes of a DX10 header; expected {_DX10_HEADER.size}. {_CUT_OFF}"
        )
    code, dimension, misc, array_size, misc_2 = _DX10_HEADER.unpack(raw)
    if misc & _MISC_CUBE:
        raise DataError(f"{path}: got a cube map; expected a flat texture. Save the face as a file.")
    if array_size > 1:
        raise DataError(
            f"{path}: got an array of {array_size} textures; expected one texture. Save each in its own file."
        )
    odd = (("dimension", dimension, (_TEXTURE_2D, _TEXTURE_3D)), ("array size", array_size, (1,)))
    notes += [f"DX10 {name} {value} instead of {good[0]}" for name, value, good in odd if value not in good]
    layout = dxgi_layout(code)
    if layout is None:
        raise DataError(f"{path}: got DXGI format {dxgi_name(code)}, which is not supported. {_SAVE_AS}")
    premultiplied = misc_2 & _ALPHA_MODE == _PREMULTIPLIED
    return Layout(layout.name, layout.pixels, signed=layout.signed, premultiplied=premultiplied), (
        dimension == _TEXTURE_3D
    )


_LINEAR_CODE = {Block.BC1: 71, Block.BC2: 74, Block.BC3: 77, Block.BC4: 80, Block.BC5: 83, Block.BC7: 98}
_SRGB_CODE = {Block.BC1: 72, Block.BC2: 75, Block.BC3: 78, Block.BC7: 99}


def build_dds(levels: Sequence[bytes], *, width: int, height: int, block: Block, srgb: bool) -> bytes:
    """Return a complete DDS file with a DX10 header, which declares the colour space.

    Args:
        levels: The compressed mip levels, largest first.
        width: Width of the largest level in pixels, a multiple of 4.
        height: Height of the largest level in pixels, a multiple of 4.
        block: The compression of the levels.
        srgb: True for colours (sRGB transfer curve), False for data.
    """
    assert width % 4 == 0 and height % 4 == 0, f"{width} x {height}"
    assert len(levels) == num_mip_levels(width, height), "levels down to 1 x 1 are required"
    code = _SRGB_CODE[block] if srgb else _LINEAR_CODE[block]
    pixel_format = (_FORMAT_SIZE, _DDPF_FOURCC, _DX10, 0, 0, 0, 0, 0)
    caps = (_DDSCAPS_TEXTURE | _DDSCAPS_COMPLEX | _DDSCAPS_MIPS, 0, 0, 0, 0)
    flags = _DDSD_REQUIRED | _DDSD_MIPS | _DDSD_LINEAR_SIZE
    top = level_bytes(block, width, height)
    header = _HEADER.pack(MAGIC, _SIZE, flags, height, width, top, 1, len(levels), *pixel_format, *caps)
    return header + _DX10_HEADER.pack(code, _TEXTURE_2D, 0, 1, 0) + b"".join(levels)

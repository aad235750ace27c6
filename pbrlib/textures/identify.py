"""What a file is by its first bytes, whatever its name says, and the size of a picture in its header."""

from __future__ import annotations

import struct
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from pbrlib.errors import DataError

HEAD_BYTES = 64


class Kind(StrEnum):
    """The kinds of files that are read; a value is what Pillow calls the kind."""

    DDS = "DDS"
    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    BMP = "BMP"
    TGA = "TGA"


_READ = (
    (Kind.DDS, 0, b"DDS "),
    (Kind.PNG, 0, b"\x89PNG\r\n\x1a\n"),
    (Kind.JPEG, 0, b"\xff\xd8\xff"),
    (Kind.WEBP, 8, b"WEBPVP8"),
    (Kind.BMP, 6, b"\0\0\0\0"),  # with "BM" in front, see below
)

_SAVE_AS = "Save it as DDS or PNG."
_AGAIN = "Get the file again."
_TEXT_MODE = (
    "a PNG whose line ends were changed on the way",
    "Get it again with a binary transfer, or out of the archive.",
)
_OTHERS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89PNG\n\x1a\n", *_TEXT_MODE),
    (0, b"\x89PNG\r\r\n", *_TEXT_MODE),
    (0, b"GIF8", "a GIF picture", _SAVE_AS),
    (0, b"II*\0", "a TIFF picture", _SAVE_AS),
    (0, b"MM\0*", "a TIFF picture", _SAVE_AS),
    (0, b"v/1\x01", "an OpenEXR picture", _SAVE_AS),
    (0, b"#?RADIANCE", "a Radiance picture (.hdr)", _SAVE_AS),
    (0, b"8BPS", "a Photoshop document", _SAVE_AS),
    (0, b"gimp xcf", "a GIMP document", _SAVE_AS),
    (0, b"\xabKTX ", "a KTX texture", _SAVE_AS),
    (0, b"VTF\0", "a texture of the Source engine (VTF)", _SAVE_AS),
    (0, b"3XDO", "a texture of the Xbox (DDX)", _SAVE_AS),
    (0, b"3XDR", "a texture of the Xbox (DDX)", _SAVE_AS),
    (4, b"ftypavif", "an AVIF picture", _SAVE_AS),
    (4, b"ftyphei", "a HEIC picture", _SAVE_AS),
    (4, b"ftypmif1", "a HEIC picture", _SAVE_AS),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture", _SAVE_AS),
    (0, b"\xff\x0a", "a JPEG XL picture", _SAVE_AS),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _SAVE_AS),
    (0, b"BSA\0", "an archive of the game (BSA)", "Unpack it and give the folder."),
    (0, b"BTDX", "an archive of the game (BA2)", "Unpack it and give the folder."),
    (0, b"PK\x03\x04", "a ZIP archive", "Unpack it and give the folder."),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it and give the folder."),
    (0, b"Rar!", "a RAR archive", "Unpack it and give the folder."),
    (0, b"\x1f\x8b", "a gzip archive", "Unpack it and give the folder."),
    (0, b"Gamebryo File", "a mesh (NIF)", "Check the file name."),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "Run git lfs pull."),
    (0, b"<", "a web page or XML", _AGAIN),
    (0, b"\0" * HEAD_BYTES, "zeros", _AGAIN),
)
"""Where bytes stand that tell another kind, what it is, and what a user can do."""


def identify(path: Path) -> Kind:
    """What a file is by its content.

    Raises:
        DataError: it cannot be read, or is none of the kinds; says what it is instead, if that is known.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error
    for kind, offset, magic in _READ:
        if head[offset:].startswith(magic) and (kind is not Kind.BMP or head[:2] == b"BM"):
            return kind
    if not head:
        raise DataError(f"{path}: got an empty file; expected a texture. {_AGAIN}")
    for offset, magic, what, way_out in _OTHERS:
        if head[offset:].startswith(magic):
            raise DataError(f"{path}: got {what}; expected a DDS or PNG texture. {way_out}")
    if _is_tga(head):
        return Kind.TGA
    raise DataError(
        f"{path}: got a file that starts with {head[:8]!r}; expected a DDS or PNG texture. "
        "It is damaged or something else: get it again, or save it as DDS or PNG."
    )


def _is_tga(head: bytes) -> bool:
    """Whether this can be a TGA, which has no magic number (Truevision TGA 2.0, fields 2 to 5)."""
    if len(head) < 18:
        return False
    _, has_map, kind, _, _, map_bits, _, _, width, height, bits, flags = struct.unpack_from(
        "<3B2HB4H2B", head
    )
    fits = (
        (kind in (1, 9) and has_map == 1 and bits in (8, 16) and map_bits in (15, 16, 24, 32))
        or (kind in (2, 10) and has_map < 2 and bits in (15, 16, 24, 32))
        or (kind in (3, 11) and has_map == 0 and bits in (8, 16))
    )
    return fits and width > 0 and height > 0 and not flags & 0xC0


def picture_size(path: Path, file: BinaryIO, kind: Kind) -> tuple[int, int]:
    """Height and width of a picture other than a DDS, as they stand in its header; reads no pixels.

    Raises:
        DataError: The file ends before its size.
    """
    head = file.read(HEAD_BYTES)
    try:
        match kind:
            case Kind.PNG:
                name, width, height = struct.unpack_from(">4s2I", head, 12)
                if name != b"IHDR":
                    raise DataError(f"{path}: got PNG chunk {name!r}; expected IHDR. {_AGAIN}")
            case Kind.BMP:
                (size,) = struct.unpack_from("<I", head, 14)
                width, height = struct.unpack_from("<2H" if size == 12 else "<2i", head, 18)
            case Kind.TGA:
                width, height = struct.unpack_from("<2H", head, 12)
            case Kind.WEBP:
                width, height = _webp_size(head)
            case Kind.JPEG:
                height, width = _jpeg_size(file)
            case Kind.DDS:
                raise ValueError("dds.read_header reads the size of a DDS")
    except struct.error as error:
        raise DataError(f"{path}: ends inside its header. It was cut off: {_AGAIN.lower()}") from error
    return abs(height), width  # rows of a BMP from the top have a negative height


def _webp_size(head: bytes) -> tuple[int, int]:
    match head[12:16]:
        case b"VP8X":
            first, second = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        case b"VP8L":
            (packed,) = struct.unpack_from("<I", head, 21)
            first, second = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        case _:
            first, second = (side & 0x3FFF for side in struct.unpack_from("<2H", head, 26))
    return first, second


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Height and width in the first frame header; each step moves on, so that the file bounds the walk."""
    file.seek(2)
    while True:
        mark, code, length = struct.unpack(">2BH", file.read(4))
        if mark != 0xFF:
            raise struct.error("no marker")
        if code == 0xFF:  # a byte that fills up
            file.seek(-3, 1)
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            _, height, width = struct.unpack(">B2H", file.read(5))
            return height, width
        else:
            file.seek(max(length, 2) - 2, 1)

"""Identifies the format of a file by its first bytes, and reads the size of a picture from its header."""

from __future__ import annotations

import struct
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from pbrlib.errors import DataError

HEAD_BYTES = 64


class FileKind(StrEnum):
    """The supported formats of texture files; the value is Pillow's name of the format."""

    DDS = "DDS"
    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WEBP"
    BMP = "BMP"
    TGA = "TGA"


_SIGNATURES = (
    (FileKind.DDS, 0, b"DDS "),
    (FileKind.PNG, 0, b"\x89PNG\r\n\x1a\n"),
    (FileKind.JPEG, 0, b"\xff\xd8\xff"),
    (FileKind.WEBP, 8, b"WEBPVP8"),
    (FileKind.BMP, 6, b"\0\0\0\0"),  # the file starts with "BM", which `identify` checks
)

_SAVE_AS = "Save it as DDS or PNG."
_COPY_AGAIN = "Copy or download the file again."
_TEXT_MODE = (
    "a PNG whose line ends were changed by a text transfer",
    "Copy it again with a binary transfer, or from the archive.",
)
_UNSUPPORTED_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
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
    (0, b"<", "a web page or XML", _COPY_AGAIN),
    (0, b"\0" * HEAD_BYTES, "zeros", _COPY_AGAIN),
)
"""Unsupported formats: offset and bytes of the signature, name of the format, and what the user can do."""


def identify(path: Path) -> FileKind:
    """Return the format of a file by its content.

    Raises:
        DataError: The file cannot be read or has an unsupported format, which the message names if known.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error
    for kind, offset, magic in _SIGNATURES:
        if head[offset:].startswith(magic) and (kind is not FileKind.BMP or head[:2] == b"BM"):
            return kind
    if not head:
        raise DataError(f"{path}: got an empty file; expected a texture. {_COPY_AGAIN}")
    for offset, magic, name, remedy in _UNSUPPORTED_SIGNATURES:
        if head[offset:].startswith(magic):
            raise DataError(f"{path}: got {name}; expected a DDS or PNG texture. {remedy}")
    if _is_tga(head):
        return FileKind.TGA
    raise DataError(
        f"{path}: got a file that starts with {head[:8]!r}; expected a DDS or PNG texture. "
        "The file is damaged or has an unknown format: copy it again, or save it as DDS or PNG."
    )


def _is_tga(head: bytes) -> bool:
    """Return whether the bytes can be a TGA header, which has no magic number (TGA 2.0, fields 2 to 5)."""
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


def picture_size(path: Path, file: BinaryIO, kind: FileKind) -> tuple[int, int]:
    """Return height and width from the header of a picture that is no DDS file, without reading pixels.

    Raises:
        DataError: The file ends before the size.
    """
    head = file.read(HEAD_BYTES)
    try:
        match kind:
            case FileKind.PNG:
                name, width, height = struct.unpack_from(">4s2I", head, 12)
                if name != b"IHDR":
                    raise DataError(f"{path}: got PNG chunk {name!r}; expected IHDR. {_COPY_AGAIN}")
            case FileKind.BMP:
                (size,) = struct.unpack_from("<I", head, 14)
                width, height = struct.unpack_from("<2H" if size == 12 else "<2i", head, 18)
            case FileKind.TGA:
                width, height = struct.unpack_from("<2H", head, 12)
            case FileKind.WEBP:
                width, height = _webp_size(head)
            case FileKind.JPEG:
                height, width = _jpeg_size(file)
            case FileKind.DDS:
                raise ValueError("dds.read_header reads the size of a DDS")
    except struct.error as error:
        raise DataError(f"{path}: got a file that ends inside its header. {_COPY_AGAIN}") from error
    return abs(height), width  # a BMP whose first row is the top row has a negative height


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
    """Return height and width of the first frame header; every step reads further, so the search ends."""
    file.seek(2)
    while True:
        mark, code, length = struct.unpack(">2BH", file.read(4))
        if mark != 0xFF:
            raise struct.error("no marker")
        if code == 0xFF:  # a fill byte
            file.seek(-3, 1)
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            _, height, width = struct.unpack(">B2H", file.read(5))
            return height, width
        else:
            file.seek(max(length, 2) - 2, 1)

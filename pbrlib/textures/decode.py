"""Texture files to pixels; runs in disposable children, so it imports neither torch nor Ray."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pbrlib.errors import DataError, PbrError
from pbrlib.textures.blocks import Bytes, read_dds
from pbrlib.textures.dds import MAX_SIZE, read_header
from pbrlib.textures.metadata import Use, apply_metadata

SUFFIXES = (".dds", ".png")
"""The texture files that are read, in the order in which equal names are preferred."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_INFLATED = 1032
"""The most bytes that one byte of a deflated stream can stand for (zlib, "Technical Details")."""


@dataclass(frozen=True)
class Texture:
    """A decoded texture file.

    ``pixels`` are ``(H, W, C)`` uint8: C is 4 (RGBA), 1 (BC4) or 2 (BC5). ``notes`` say what the decoder
    changed, and what it saw and could not apply.
    """

    pixels: Bytes
    notes: tuple[str, ...] = ()


def read_size(path: Path) -> tuple[int, int]:
    """Height and width as they are stored, from the header alone.

    A picture with an EXIF orientation may have them the other way round once it is upright.

    Raises:
        DataError: The message names the file and the field.
    """
    if path.suffix.lower() == ".dds":
        header = read_header(path)
        return header.height, header.width
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise DataError(f"{path}: starts with {head[:8]!r}. It is not a PNG picture.")
    width, height = struct.unpack(">II", head[16:24])
    for name, value in (("width", width), ("height", height)):
        if not 1 <= value <= MAX_SIZE:
            raise DataError(f"{path}: {name} {value} is not in 1..{MAX_SIZE}. The file is damaged.")
    return height, width


def read_texture(path: Path, *, use: Use) -> Texture:
    """Reads a texture, upright, a colour in sRGB.

    Args:
        path: A DDS or PNG file.
        use: What the pixels are read for; see ``metadata.apply_metadata``.

    Raises:
        DataError: Whatever is wrong with the file, named.
    """
    if path.suffix.lower() == ".dds":
        return Texture(read_dds(path))
    height, width = read_size(path)
    _check_length(path, height=height, width=width)
    return _read_png(path, use)


def read_picture(path: Path) -> Bytes:
    """Reads the pixels of a texture as numbers; raises DataError as ``read_texture`` does."""
    return read_texture(path, use="data").pixels


def _check_length(path: Path, *, height: int, width: int) -> None:
    """Raises DataError where a PNG is too short for its size: Pillow makes room for it before it looks."""
    with path.open("rb") as file:
        depth, colour = file.read(26).ljust(26, b"\0")[24:]
    least = height * width * depth * _PNG_CHANNELS.get(colour, 1) // 8
    num_bytes = path.stat().st_size
    if least > _INFLATED * num_bytes:
        raise DataError(
            f"{path}: {num_bytes} bytes cannot hold {width} x {height} pixels. It was cut off: copy it again."
        )


def _read_png(path: Path, use: Use) -> Texture:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=("PNG",))
        with opened:
            opened.load()
            picture, notes = apply_metadata(opened, use=use)
            if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip instead of scale
                grey = (np.asarray(picture).astype(np.float32) / 257.0).round().astype(np.uint8)
                return Texture(np.stack((grey, grey, grey, np.full_like(grey, 255)), axis=-1), notes)
            return Texture(np.asarray(picture.convert("RGBA"), dtype=np.uint8), notes)
    except PbrError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {error} Reduce it to at most 8192 px a side.") from error
    except Exception as error:  # a decoder raises what it likes: OSError, SyntaxError, zlib.error ...
        raise DataError(f"{path}: does not decode ({error}). Save it again.") from error

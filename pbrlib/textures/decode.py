"""Texture files to pixels; runs in disposable children, so it imports neither torch nor Ray."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pbrlib.errors import DataError, PbrError
from pbrlib.textures.blocks import Bytes
from pbrlib.textures.dds import MAX_SIZE, read_header
from pbrlib.textures.ddspixels import read_dds
from pbrlib.textures.identify import Kind, identify, picture_size
from pbrlib.textures.metadata import Use, apply_metadata

SUFFIXES = (".dds", ".png", ".tga", ".bmp", ".webp", ".jpg", ".jpeg")
"""The texture files that are read, in the order in which equal names are preferred."""

_ENDINGS = {
    ".dds": Kind.DDS,
    ".png": Kind.PNG,
    ".jpg": Kind.JPEG,
    ".jpeg": Kind.JPEG,
    ".webp": Kind.WEBP,
    ".bmp": Kind.BMP,
    ".tga": Kind.TGA,
}

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_INFLATED = 1032
"""The most bytes that one byte of a deflated stream can stand for (zlib, "Technical Details"); the most
pixels of a JPEG, BMP or TGA are fewer."""


@dataclass(frozen=True)
class Texture:
    """A decoded texture file.

    ``pixels`` are ``(H, W, C)`` uint8: C is 4 (RGBA), 1 (grey: BC4) or 2 (red and green alone: BC5,
    V8U8, R8G8). ``notes`` say what the decoder changed, what it could not apply, what the format lost.
    """

    pixels: Bytes
    notes: tuple[str, ...] = ()


def read_size(path: Path) -> tuple[int, int]:
    """Height and width as they are stored, from the header alone.

    A picture with an EXIF orientation may have them the other way round once it is upright.

    Raises:
        DataError: The message names the file and the field.
    """
    kind = identify(path)
    if kind is Kind.DDS:
        header = read_header(path)
        return header.height, header.width
    try:
        with path.open("rb") as file:
            height, width = picture_size(path, file, kind)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file.") from error
    for name, value in (("width", width), ("height", height)):
        if not 1 <= value <= MAX_SIZE:
            raise DataError(f"{path}: got {name} {value}; expected 1..{MAX_SIZE}. The header is damaged.")
    return height, width


def read_texture(path: Path, *, use: Use) -> Texture:
    """Reads a texture, upright, a colour in sRGB.

    The content says what the file is, not its name: DDS, PNG, JPEG, WebP, BMP or TGA.

    Args:
        path: The file.
        use: What the pixels are read for; see ``metadata.apply_metadata``.

    Raises:
        DataError: Whatever is wrong with the file, named.
    """
    kind = identify(path)
    if kind is Kind.DDS:
        texture = Texture(*read_dds(path, use=use))
    else:
        height, width = read_size(path)
        _check_length(path, kind, height=height, width=width)
        texture = _read_with_pillow(path, kind, use)
        if kind is Kind.JPEG and use == "normal":
            lost = "compressed as JPEG, which blurs directions: take the DDS or PNG it was made from"
            texture = Texture(texture.pixels, (*texture.notes, lost))
    if _ENDINGS.get(path.suffix.lower()) is kind:
        return texture
    return Texture(texture.pixels, (f"is a {kind} file, whatever its name says", *texture.notes))


def read_picture(path: Path) -> Bytes:
    """Reads the pixels of a texture as numbers; raises DataError as ``read_texture`` does."""
    return read_texture(path, use="data").pixels


def _check_length(path: Path, kind: Kind, *, height: int, width: int) -> None:
    """Raises DataError where a file is too short for its size: Pillow makes room for it before it looks."""
    num_bytes = path.stat().st_size
    least = height * width
    match kind:
        case Kind.PNG:
            with path.open("rb") as file:
                depth, colour = file.read(26).ljust(26, b"\0")[24:]
            least = least * depth * _PNG_CHANNELS.get(colour, 1) // 8
        case Kind.WEBP:  # pixels of one colour take nothing; Pillow's limit bounds them
            return
        case _:
            pass
    if least > _INFLATED * num_bytes:
        raise DataError(
            f"{path}: got {num_bytes} bytes, which cannot hold {width} x {height} pixels. "
            "The file was cut off: copy or download it again."
        )


def _read_with_pillow(path: Path, kind: Kind, use: Use) -> Texture:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=(kind,))
        with opened:
            if opened.mode in ("CMYK", "YCCK", "LAB"):
                raise DataError(
                    f"{path}: got colour mode {opened.mode}; expected grey or RGB. Save it as RGB."
                )
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
        raise DataError(
            f"{path}: got a {kind} picture that does not decode ({error}). "
            "Open it in an image program and save it again."
        ) from error

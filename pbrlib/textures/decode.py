"""Decodes texture files to pixels; imports neither torch nor Ray, since it runs in child processes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pbrlib.errors import DataError, PbrError
from pbrlib.textures.blocks import Bytes
from pbrlib.textures.dds import MAX_SIZE, read_header
from pbrlib.textures.ddspixels import read_dds
from pbrlib.textures.identify import FileKind, identify, picture_size
from pbrlib.textures.metadata import Use, apply_metadata

SUFFIXES = (".dds", ".png", ".tga", ".bmp", ".webp", ".jpg", ".jpeg")
"""Suffixes of supported texture files in order of preference for files of the same name."""

_KIND_BY_SUFFIX = {
    ".dds": FileKind.DDS,
    ".png": FileKind.PNG,
    ".jpg": FileKind.JPEG,
    ".jpeg": FileKind.JPEG,
    ".webp": FileKind.WEBP,
    ".bmp": FileKind.BMP,
    ".tga": FileKind.TGA,
}

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_MAX_INFLATION = 1032
"""Maximum ratio of inflated to deflated bytes (zlib, "Technical Details").

The number of pixels per byte of a JPEG, BMP or TGA file is lower.
"""


@dataclass(frozen=True)
class Texture:
    """A decoded texture file.

    ``pixels`` are ``(H, W, C)`` uint8: C is 4 (RGBA), 1 (grey: BC4) or 2 (red and green only: BC5, V8U8,
    R8G8). ``notes`` list changes made by the decoder, metadata it could not apply, and losses of the format.
    """

    pixels: Bytes
    notes: tuple[str, ...] = ()


def read_size(path: Path) -> tuple[int, int]:
    """Return the stored height and width from the header of a file.

    For a picture with an EXIF orientation, height and width may be swapped after it is turned upright.

    Raises:
        DataError: The message names the file and the field.
    """
    kind = identify(path)
    if kind is FileKind.DDS:
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
    """Read a texture, turn it upright and convert colours to sRGB.

    The format (DDS, PNG, JPEG, WebP, BMP or TGA) is determined from the content of the file.

    Args:
        path: The file.
        use: The purpose of the pixels; see ``metadata.apply_metadata``.

    Raises:
        DataError: The file cannot be read; the message names the file and the reason.
    """
    kind = identify(path)
    if kind is FileKind.DDS:
        texture = Texture(*read_dds(path, use=use))
    else:
        height, width = read_size(path)
        _require_plausible_length(path, kind, height=height, width=width)
        texture = _read_with_pillow(path, kind, use)
        if kind is FileKind.JPEG and use == "normal":
            lost = "JPEG compression blurs directions; use the original DDS or PNG if there is one"
            texture = Texture(texture.pixels, (*texture.notes, lost))
    if _KIND_BY_SUFFIX.get(path.suffix.lower()) is kind:
        return texture
    return Texture(texture.pixels, (f"has {kind} content despite the suffix {path.suffix!r}", *texture.notes))


def read_picture(path: Path) -> Bytes:
    """Read the pixels of a texture without colour conversion; raises DataError as ``read_texture`` does."""
    return read_texture(path, use="data").pixels


def _require_plausible_length(path: Path, kind: FileKind, *, height: int, width: int) -> None:
    """Raise DataError if a file is too short for its size, since Pillow allocates memory before it checks."""
    num_bytes = path.stat().st_size
    least = height * width
    match kind:
        case FileKind.PNG:
            with path.open("rb") as file:
                depth, colour = file.read(26).ljust(26, b"\0")[24:]
            least = least * depth * _PNG_CHANNELS.get(colour, 1) // 8
        case FileKind.WEBP:  # a picture of one colour has nearly no bytes; Pillow's own limit applies
            return
        case _:
            pass
    if least > _MAX_INFLATION * num_bytes:
        raise DataError(
            f"{path}: got {num_bytes} bytes, which cannot hold {width} x {height} pixels. "
            "The file was cut off: copy or download it again."
        )


def _read_with_pillow(path: Path, kind: FileKind, use: Use) -> Texture:
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
            if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
                grey = (np.asarray(picture).astype(np.float32) / 257.0).round().astype(np.uint8)
                return Texture(np.stack((grey, grey, grey, np.full_like(grey, 255)), axis=-1), notes)
            return Texture(np.asarray(picture.convert("RGBA"), dtype=np.uint8), notes)
    except PbrError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {error} Reduce it to at most 8192 px a side.") from error
    except Exception as error:  # decoders raise errors of many types: OSError, SyntaxError, zlib.error
        raise DataError(
            f"{path}: got a {kind} picture that does not decode ({error}). "
            "Open it in an image program and save it again."
        ) from error

"""Picture files to pixels: what may be hostile, and what its metadata says of it."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, assert_never

import numpy as np

from pbrlib.errors import DataError
from pbrlib.maps import Encoding, MapType
from pbrlib.textures.decode import read_texture
from pbrlib.textures.metadata import Use, apply_metadata

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".tga", ".bmp", ".dds")
"""The pictures that are read, in the order in which equal names are preferred."""

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
"""What Pillow decodes; its DDS knows too few block formats, so `pbrlib.textures` reads those."""

_BY_SUFFIX = {".tga": ("TGA",)}
"""TGA has no mark of its own: it is tried only where the name says so."""

Pixels: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright; ``notes`` say what its metadata made of it, or could not."""

    pixels: Pixels
    notes: tuple[str, ...] = ()


def use_of(kind: MapType) -> Use:
    """Return what the pixels of a map are: colours, directions or numbers."""
    match kind.encoding:
        case Encoding.SRGB:
            return "colour"
        case Encoding.NORMAL:
            return "normal"
        case Encoding.LINEAR | Encoding.SIGNED | Encoding.LABEL:
            return "data"
        case _:
            assert_never(kind.encoding)


def read_pixels(path: Path, *, use: Use) -> Picture:
    """Decodes a picture file, see ``decode_pixels``; raises DataError naming it, also if it is missing.

    Of a DDS the largest mip level; the third channel of two (BC5) is 0.
    """
    if path.suffix.lower() != ".dds":
        return decode_pixels(path, place=str(path), use=use)
    texture = read_texture(path, use=use)
    pixels = texture.pixels
    if pixels.shape[-1] == 2:
        return Picture(np.concatenate((pixels, np.zeros_like(pixels[..., :1])), axis=-1), texture.notes)
    return Picture(pixels[..., :3], texture.notes)


def decode_pixels(file: Path | BinaryIO, *, place: str, use: Use) -> Picture:
    """Decodes a picture to ``(H, W, C)``: uint8 with one or three channels, or uint16 with one.

    Alpha is dropped, palettes are looked up, EXIF turns it upright; an ICC profile or gAMA brings colours to
    sRGB.

    Args:
        file: The picture, or where it is.
        place: What an error calls it.
        use: What the pixels are read for.

    Raises:
        DataError: The picture is missing, damaged, of another format or mode, or absurdly large.
    """
    from PIL import Image

    formats = _BY_SUFFIX.get(file.suffix.lower(), FORMATS) if isinstance(file, Path) else FORMATS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a decoder, on damage that it can read past
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as picture:
                upright, notes = apply_metadata(picture, use=use)
                return Picture(_pixels_of(upright, place), notes)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{place}: no such file. Correct its name where it is given.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{place}: {error} Reduce it to at most 8192 px a side.") from error
    except Exception as error:  # a decoder raises what it likes: OSError, SyntaxError, struct.error ...
        raise DataError(
            f"{place}: does not decode ({_said_by(error)}). Open it in an editor and save it as PNG; if that "
            "fails too, it was damaged on its way: take it from its source again."
        ) from error


def _said_by(error: Exception) -> str:
    """What a decoder says, without the address of a stream in memory."""
    reason = re.sub(r" '?<_io\.\w+ object at 0x[0-9a-f]+>'?", "", str(error))
    return reason or type(error).__name__


def _pixels_of(picture: Any, place: str) -> Pixels:
    mode = picture.mode
    if mode == "F":
        return _quantised(np.asarray(picture), place)
    if mode.startswith("I"):  # 16 bits of grey; Pillow holds some as 32
        wide = np.asarray(picture)
        if wide.min() < 0 or wide.max() > np.iinfo(np.uint16).max:
            raise DataError(f"{place}: {wide.max()} does not fit 16 bits. Save it with 8 or 16 bits.")
        return wide.astype(np.uint16)[..., None]
    target = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}.get(mode)
    if target is None:
        raise DataError(f"{place}: colour mode {mode}. Save it as grey or RGB.")
    if mode in ("P", "PA"):  # transparency of a palette is a warning or a channel, depending on its form
        picture = picture.convert("RGBA")
    pixels = np.array(picture.convert(target), dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _quantised(values: Floats, place: str) -> Pixels:
    """Floating point numbers of [0, 1] as 16 bits, ``(H, W, 1)``."""
    if not (np.isfinite(values).all() and values.min() >= 0.0 and values.max() <= 1.0):
        raise DataError(f"{place}: its numbers are not all in 0..1. Save it with 16 bits.")
    return np.rint(values * np.iinfo(np.uint16).max).astype(np.uint16)[..., None]

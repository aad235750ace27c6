"""Decodes untrusted picture files to pixels, and applies their metadata."""

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
"""The suffixes that are read; of files with one name, the earlier suffix is preferred."""

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
"""The formats that Pillow decodes; `pbrlib.textures` reads DDS, since Pillow decodes few block formats."""

_BY_SUFFIX = {".tga": ("TGA",)}
"""TGA has no magic number, so it is tried only for files with its suffix."""

Pixels: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright; ``notes`` name the metadata that were applied or could not be applied."""

    pixels: Pixels
    notes: tuple[str, ...] = ()


def use_of(kind: MapType) -> Use:
    """Return how the pixels of a map are used: as colours, normals or data."""
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
    """Decode a picture file as ``decode_pixels`` does.

    Of a DDS file the largest mip level is read; two channels (BC5) get a third channel of zeros.
    """
    if path.suffix.lower() != ".dds":
        return decode_pixels(path, place=str(path), use=use)
    texture = read_texture(path, use=use)
    pixels = texture.pixels
    if pixels.shape[-1] == 2:
        return Picture(np.concatenate((pixels, np.zeros_like(pixels[..., :1])), axis=-1), texture.notes)
    return Picture(pixels[..., :3], texture.notes)


def decode_pixels(file: Path | BinaryIO, *, place: str, use: Use) -> Picture:
    """Decode a picture to ``(H, W, C)``: uint8 with one or three channels, or uint16 with one.

    Alpha is dropped, palette colours are looked up, the orientation of EXIF is applied, and colours with an
    ICC profile or gAMA are converted to sRGB.

    Args:
        file: The path of the picture, or an open binary file.
        place: The name of the picture in error messages.
        use: How the pixels are used, which decides the conversions.

    Raises:
        DataError: The picture is missing, damaged, of another format or mode, or absurdly large.
    """
    from PIL import Image

    formats = _BY_SUFFIX.get(file.suffix.lower(), FORMATS) if isinstance(file, Path) else FORMATS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of damage that they skip
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
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, struct.error ...
        raise DataError(
            f"{place}: does not decode ({_message(error)}). Open it in an editor and save it as PNG; if that "
            "fails too, the file is damaged: download or export it again."
        ) from error


def _message(error: Exception) -> str:
    """Return the message of a decoder, without memory addresses of streams."""
    reason = re.sub(r" '?<_io\.\w+ object at 0x[0-9a-f]+>'?", "", str(error))
    return reason or type(error).__name__


def _pixels_of(picture: Any, place: str) -> Pixels:
    mode = picture.mode
    if mode == "F":
        return _quantise(np.asarray(picture), place)
    if mode.startswith("I"):  # 16-bit grey; Pillow decodes some of it to 32 bits
        wide = np.asarray(picture)
        if wide.min() < 0 or wide.max() > np.iinfo(np.uint16).max:
            raise DataError(
                f"{place}: got values {wide.min()} to {wide.max()}; expected 0 to 65535. "
                "Save it with 8 or 16 bits."
            )
        return wide.astype(np.uint16)[..., None]
    target = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}.get(mode)
    if target is None:
        raise DataError(f"{place}: got colour mode {mode}; expected grey or RGB. Save it as grey or RGB.")
    if mode in ("P", "PA"):  # else Pillow warns of palettes whose transparency is bytes
        picture = picture.convert("RGBA")
    pixels = np.array(picture.convert(target), dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _quantise(values: Floats, place: str) -> Pixels:
    """Convert floating-point values in [0, 1] to 16 bits, ``(H, W, 1)``."""
    if not (np.isfinite(values).all() and values.min() >= 0.0 and values.max() <= 1.0):
        raise DataError(
            f"{place}: got values outside of 0..1; expected floating-point values in 0..1. "
            "Save it with 16 bits."
        )
    return np.rint(values * np.iinfo(np.uint16).max).astype(np.uint16)[..., None]

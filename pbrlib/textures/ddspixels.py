"""Reads the pixels of a DDS file; swizzled channels and premultiplied alpha are undone."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

import numpy as np

from pbrlib.errors import DataError
from pbrlib.textures.blocks import Bytes, decode_blocks
from pbrlib.textures.dds import Header, read_largest_level
from pbrlib.textures.formats import ALPHA_ONLY
from pbrlib.textures.layouts import Block, Floats, Masks, PackedFloats, Palette
from pbrlib.textures.metadata import Use
from pbrlib.textures.plain import (
    apply_palette,
    quantise_floats,
    unpack_floats,
    unpack_masks,
    unpack_packed_floats,
)

_TOLERANCE, _MAX_BRIGHTER_SHARE = 16, 0.005
"""Test of premultiplied colours, which are at most equal to alpha.

Compression changes colours by up to ``_TOLERANCE`` of 255. If more than ``_MAX_BRIGHTER_SHARE`` of the pixels
exceed alpha by more, the colours are not premultiplied and the header is wrong."""


def read_dds(path: Path, *, use: Use) -> tuple[Bytes, tuple[str, ...]]:
    """Read the largest mip level of a DDS file.

    Args:
        path: The file.
        use: The purpose of the pixels.

    Returns:
        ``(H, W, C)`` uint8 with C = 1 (grey), 2 (red and green only) or 4 (RGBA), and notes on wrong header
        values, changes made by the decoder, and losses of the file format.

    Raises:
        DataError: As ``dds.read_header``, or the pixels do not decode.
    """
    header, data = read_largest_level(path)
    layout = header.layout
    try:
        pixels, notes = _decode(header, data, use)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if header.notes:
        odd = "; ".join(header.notes)
        notes = (f"header has wrong values ({odd}), which a game may reject; save the file again", *notes)
    if layout.swizzle:
        pixels = _undo_swizzle(pixels, layout.swizzle)
        notes += (f"channels reordered from {layout.name}",)
    if layout.premultiplied and pixels.shape[-1] == 4:
        pixels, note = _divide_by_alpha(pixels)
        notes += (note,)
    if use == "normal" and layout.normal_loss:
        notes += (layout.normal_loss,)
    return pixels, notes


def _decode(header: Header, data: bytes, use: Use) -> tuple[Bytes, tuple[str, ...]]:
    width, height, row_bytes, signed = header.width, header.height, header.row_bytes, header.layout.signed
    match header.pixels:
        case Block() as block:
            pixels = decode_blocks(data, block, width=width, height=height, signed=signed)
            return quantise_floats(pixels, use=use) if block is Block.BC6H else (pixels, ())
        case Masks() as masks:
            unpacked = unpack_masks(
                data, masks, width=width, height=height, row_bytes=row_bytes, signed=signed
            )
            alone = header.layout.name in ALPHA_ONLY
            return unpacked, (("has only an alpha channel, read as grey",) if alone else ())
        case Floats() as floats:
            return quantise_floats(unpack_floats(data, floats, width=width, height=height), use=use)
        case PackedFloats():
            return quantise_floats(unpack_packed_floats(data, width=width, height=height), use=use)
        case Palette() as palette:
            return apply_palette(data, palette, width=width, height=height, row_bytes=row_bytes), ()
        case _:
            assert_never(header.pixels)


def _undo_swizzle(pixels: Bytes, swizzle: str) -> Bytes:
    """Return the channels that ``swizzle`` names in order: a letter is one of RGBA, 1 is opaque."""
    result = np.full((*pixels.shape[:2], len(swizzle)), 255, np.uint8)
    for channel, letter in enumerate(swizzle):
        if letter != "1":
            result[..., channel] = pixels[..., "RGBA".index(letter)]
    return result


def _divide_by_alpha(pixels: Bytes) -> tuple[Bytes, str]:
    """Divide colours by alpha, and return them with a note; colours that exceed alpha are left unchanged."""
    alpha = pixels[..., 3]
    if (
        pixels[..., :3].max(axis=-1) > alpha.clip(max=255 - _TOLERANCE) + _TOLERANCE
    ).mean() > _MAX_BRIGHTER_SHARE:
        return pixels, "declared as premultiplied, but colours exceed alpha; colours are not changed"
    divided = pixels.copy()
    for channel in range(3):
        divided[..., channel] = _QUOTIENTS[pixels[..., channel], alpha]
    lost = float((alpha < _MIN_DIVISOR).mean())
    return divided, f"premultiplied alpha divided out; {lost:.0%} of the pixels are transparent and stay dark"


_MIN_DIVISOR = 32
"""Minimum alpha to divide by; a smaller one would amplify compression noise into visible colours."""

_QUOTIENTS = np.rint(
    np.minimum(np.arange(256)[:, None] * (255.0 / np.maximum(np.arange(256), _MIN_DIVISOR)), 255.0)
).astype(np.uint8)
"""Quotients for each pair of colour and alpha, as bytes."""

"""The pixels of a DDS file, in the channels where they belong and without premultiplied alpha."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

import numpy as np

from pbrlib.errors import DataError
from pbrlib.textures.blocks import Bytes, decode_blocks
from pbrlib.textures.dds import Header, read_top
from pbrlib.textures.formats import ALPHA_ALONE
from pbrlib.textures.layouts import Block, Floats, Masks, PackedFloats, Palette
from pbrlib.textures.metadata import Use
from pbrlib.textures.plain import look_up, quantise_floats, read_floats, read_packed_floats, unmask

_SLACK, _BRIGHTER = 16, 0.005
"""Colours that are multiplied by alpha are no larger than it. Compression moves them by up to ``_SLACK``, of
255; if more than this share is larger by more, the header is wrong."""


def read_dds(path: Path, *, use: Use) -> tuple[Bytes, tuple[str, ...]]:
    """The largest mip level of a DDS file.

    Args:
        path: The file.
        use: What the pixels are read for.

    Returns:
        ``(H, W, C)`` uint8 with C = 1 (grey), 2 (red and green alone) or 4 (RGBA), and notes on what is odd,
        was changed, or lost before it came here.

    Raises:
        DataError: as ``dds.read_header``, or pixels that do not decode.
    """
    header, data = read_top(path)
    layout = header.layout
    try:
        pixels, notes = _decoded(header, data, use)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if header.notes:
        odd = "; ".join(header.notes)
        notes = (f"read in spite of its header ({odd}), which a game may refuse: save it again", *notes)
    if layout.swizzle:
        pixels = _swizzled(pixels, layout.swizzle)
        notes += (f"channels put back: {layout.name}",)
    if layout.premultiplied and pixels.shape[-1] == 4:
        pixels, note = _divided(pixels)
        notes += (note,)
    if use == "normal" and layout.normal_loss:
        notes += (layout.normal_loss,)
    return pixels, notes


def _decoded(header: Header, data: bytes, use: Use) -> tuple[Bytes, tuple[str, ...]]:
    width, height, row_bytes, signed = header.width, header.height, header.row_bytes, header.layout.signed
    match header.pixels:
        case Block() as block:
            pixels = decode_blocks(data, block, width=width, height=height, signed=signed)
            return quantise_floats(pixels, use=use) if block is Block.BC6H else (pixels, ())
        case Masks() as masks:
            unpacked = unmask(data, masks, width=width, height=height, row_bytes=row_bytes, signed=signed)
            alone = header.layout.name in ALPHA_ALONE
            return unpacked, (("holds alpha alone, read as grey",) if alone else ())
        case Floats() as floats:
            return quantise_floats(read_floats(data, floats, width=width, height=height), use=use)
        case PackedFloats():
            return quantise_floats(read_packed_floats(data, width=width, height=height), use=use)
        case Palette() as palette:
            return look_up(data, palette, width=width, height=height, row_bytes=row_bytes), ()
        case _:
            assert_never(header.pixels)


def _swizzled(pixels: Bytes, swizzle: str) -> Bytes:
    """The stored channels in order: a letter is one of RGBA, 1 is opaque."""
    result = np.full((*pixels.shape[:2], len(swizzle)), 255, np.uint8)
    for channel, letter in enumerate(swizzle):
        if letter != "1":
            result[..., channel] = pixels[..., "RGBA".index(letter)]
    return result


def _divided(pixels: Bytes) -> tuple[Bytes, str]:
    """Colours without the alpha that they are declared to be multiplied by."""
    alpha = pixels[..., 3]
    if (pixels[..., :3].max(axis=-1) > alpha.clip(max=255 - _SLACK) + _SLACK).mean() > _BRIGHTER:
        return pixels, "declared as premultiplied with alpha, but brighter than it: colours left as they are"
    divided = pixels.copy()
    for channel in range(3):
        divided[..., channel] = _QUOTIENTS[pixels[..., channel], alpha]
    lost = float((alpha < _LEAST_ALPHA).mean())
    return divided, f"premultiplied alpha divided out; {lost:.0%} of its pixels are transparent and stay dark"


_LEAST_ALPHA = 32
"""Divisors stop here: a smaller alpha would make noise of the compression, a few steps, into colours."""

_QUOTIENTS = np.rint(
    np.minimum(np.arange(256)[:, None] * (255.0 / np.maximum(np.arange(256), _LEAST_ALPHA)), 255.0)
).astype(np.uint8)
"""Every colour over every alpha."""

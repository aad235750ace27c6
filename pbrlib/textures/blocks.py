"""Pixels in and out of DDS files; the block codecs are libraries.

imagecodecs (bcdec) decodes: it knows BC2, the one-bit alpha of BC1, and that BC3 has no three-colour mode.
etcpak encodes; its own decoders crash the interpreter and are never called. Neither is trusted with a
file from outside in the process that converts: see ``pbrlib.convert.workers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, assert_never

import numpy as np

from pbrlib.errors import DataError
from pbrlib.textures.dds import Block, Header, Masks, build, read_top

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]


OPAQUE = 253
"""Least alpha of an opaque picture: block compression turns 255 into this at worst."""


def is_opaque(alpha: Bytes) -> bool:
    """Whether no pixel of an alpha channel, in any shape, is transparent."""
    return bool(alpha.min() >= OPAQUE)


def read_dds(path: Path) -> Bytes:
    """The largest mip level, ``(H, W, C)`` uint8: C is 1 (BC4), 2 (BC5) or 4 (everything else, RGBA).

    Raises:
        DataError: as ``dds.read_header``, or pixels that do not decode.
    """
    header, data = read_top(path)
    match header.pixels:
        case Masks():
            return _unmask(header, header.pixels, data)
        case Block():
            return _decode(path, header, header.pixels, data)
        case _:
            assert_never(header.pixels)


def _decode(path: Path, header: Header, block: Block, data: bytes) -> Bytes:
    import imagecodecs

    channels = {Block.BC4: 1, Block.BC5: 2}.get(block, 4)
    rows, columns = -(-header.height // 4) * 4, -(-header.width // 4) * 4
    shape = (rows, columns) if channels == 1 else (rows, columns, channels)
    try:
        pixels = imagecodecs.bcn_decode(data, block.value, shape=shape)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{path}: {block.name} blocks do not decode ({error}). Save it again.") from error
    whole: Bytes = np.asarray(pixels, dtype=np.uint8).reshape(rows, columns, channels)
    return np.ascontiguousarray(whole[: header.height, : header.width])


def _unmask(header: Header, masks: Masks, data: bytes) -> Bytes:
    stored = np.frombuffer(data, np.uint8).reshape(header.height, header.width, masks.num_bytes)
    words = np.zeros(stored.shape[:2], np.uint32)
    for byte in range(masks.num_bytes):
        words |= stored[..., byte].astype(np.uint32) << np.uint32(8 * byte)
    pixels = np.full((header.height, header.width, 4), 255, np.uint8)
    for channel, mask in enumerate(masks.channels):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            largest = mask >> shift
            values = (words & np.uint32(mask)) >> np.uint32(shift)
            pixels[..., channel] = np.rint(values * (255.0 / largest)).astype(np.uint8)
        elif channel < 3:
            pixels[..., channel] = 0
    return pixels


@cache
def _bc7_parameters() -> Any:
    """Equal weights of the channels: the default of etcpak, perceptual, would favour green in data too."""
    import etcpak

    parameters = etcpak.BC7CompressBlockParams()
    parameters.init_linear_weights()
    parameters.m_uber_level = 1  # a tenth less error for a third more time; higher levels gain nothing
    return parameters


def _compress(pixels: Bytes, block: Block) -> bytes:
    import etcpak

    height, width = pixels.shape[:2]
    data = pixels.tobytes()
    match block:
        case Block.BC1:
            blocks: bytes = etcpak.compress_bc1(data, width, height)
        case Block.BC3:
            blocks = etcpak.compress_bc3(data, width, height)
        case Block.BC4:
            blocks = etcpak.compress_bc4(data, width, height)
        case Block.BC5:
            blocks = etcpak.compress_bc5(data, width, height)
        case Block.BC7:
            blocks = etcpak.compress_bc7(data, width, height, _bc7_parameters())
        case Block.BC2:
            raise ValueError("BC2 is only read")
        case _:
            assert_never(block)
    return blocks


def encode_dds(levels: Sequence[Bytes], *, block: Block, srgb: bool) -> bytes:
    """A DDS file of mip levels.

    Args:
        levels: ``(H, W, 4)`` uint8 RGBA, largest first, down to 1 x 1; BC4 keeps the red channel, BC5 red
            and green. The sides of the first are multiples of 4.
        block: the compression.
        srgb: whether the values follow the sRGB curve; nothing is converted, the header says so.
    """
    height, width = levels[0].shape[:2]
    chain = []
    for pixels in levels:
        bottom, right = -pixels.shape[0] % 4, -pixels.shape[1] % 4
        chain.append(_compress(np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge"), block))
    return build(chain, width=width, height=height, block=block, srgb=srgb)

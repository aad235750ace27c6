"""Blocks of compressed pixels, decoded and encoded; the codecs are libraries.

imagecodecs (bcdec) decodes colours: it knows BC2, the one-bit alpha of BC1, and that BC3 has no three-colour
mode. etcpak encodes them. `pbrlib.textures.scalarblocks` does both for single channels. etcpak's own decoders
crash the interpreter and are never called. Neither library is trusted with a file from outside in the process
that converts: see ``pbrlib.convert.workers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias, assert_never

import numpy as np

from pbrlib.errors import DataError
from pbrlib.textures.dds import build
from pbrlib.textures.layouts import Block
from pbrlib.textures.scalarblocks import decode_scalar_blocks, encode_scalar_blocks

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
BlockPixels: TypeAlias = np.ndarray[Any, np.dtype[Any]]

OPAQUE = 253
"""Least alpha of an opaque picture: block compression turns 255 into this at worst."""


def is_opaque(alpha: Bytes) -> bool:
    """Whether no pixel of an alpha channel, in any shape, is transparent."""
    return bool(alpha.min() >= OPAQUE)


def decode_blocks(data: bytes, block: Block, *, width: int, height: int, signed: bool) -> BlockPixels:
    """Decodes the blocks of one mip level.

    Args:
        data: The blocks.
        block: Their compression.
        width: Pixels across, of which the last blocks may hold more.
        height: Pixels down.
        signed: Whether BC4 and BC5 stand for [-1, 1], which becomes 0..255 as normals are stored, and whether
            the floats of BC6H have a sign.

    Returns:
        ``(height, width, C)`` uint8: C is 1 (BC4), 2 (BC5), else 4 (RGBA); of BC6H 3 channels of float16.

    Raises:
        DataError: The blocks do not decode; the caller names the file.
    """
    import imagecodecs

    if block in (Block.BC4, Block.BC5):
        return _decode_scalars(data, width=width, height=height, signed=signed)
    channels = 3 if block is Block.BC6H else 4
    rows, columns = -(-height // 4) * 4, -(-width // 4) * 4
    shape = (rows, columns, channels)
    code = -block.value if signed and block is Block.BC6H else block.value
    try:
        pixels = imagecodecs.bcn_decode(data, code, shape=shape)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"got {block.name} blocks that do not decode ({error}). Save it again.") from error
    whole: BlockPixels = np.asarray(pixels).reshape(rows, columns, channels)[:height, :width].copy()
    if block is Block.BC3:
        alpha = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, 16)[:, :8])
        whole[..., 3] = decode_scalar_blocks(alpha, height=rows, width=columns)[:height, :width]
    return whole


def _decode_scalars(data: bytes, *, width: int, height: int, signed: bool) -> Bytes:
    """The one channel of BC4 or the two of BC5, as ``decode_blocks``."""
    rows, columns = -(-height // 4) * 4, -(-width // 4) * 4
    num_channels = len(data) // (rows * columns // 2)
    halves = np.frombuffer(_raised(data) if signed else data, np.uint8).reshape(-1, num_channels, 8)
    planes = [decode_scalar_blocks(halves[:, i], height=rows, width=columns) for i in range(num_channels)]
    pixels = np.stack(planes, axis=-1)[:height, :width]
    return _SIGNED[pixels] if signed else np.ascontiguousarray(pixels)


_SIGNED = np.rint((np.maximum((np.arange(256) - 128) / 127, -1.0) + 1.0) * 127.5).astype(np.uint8)
"""What a number of BC4_SNORM or BC5_SNORM, 128 added, is as a normal is stored."""


def _raised(data: bytes) -> bytes:
    """Blocks with a sign as blocks without: 128 more at both ends is 128 more in all that lies between.

    The order of the ends, which chooses the mode, stays; so do the two extremes of the short mode.
    """
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 8).copy()
    blocks[:, :2] ^= 0x80
    return blocks.tobytes()


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
            colours = np.frombuffer(etcpak.compress_bc3(data, width, height), np.uint8).reshape(-1, 16)[:, 8:]
            blocks = np.hstack((encode_scalar_blocks(pixels[..., 3]), colours)).tobytes()
        case Block.BC4:
            blocks = encode_scalar_blocks(pixels[..., 0]).tobytes()
        case Block.BC5:
            blocks = np.hstack([encode_scalar_blocks(pixels[..., i]) for i in (0, 1)]).tobytes()
        case Block.BC7:
            blocks = etcpak.compress_bc7(data, width, height, _bc7_parameters())
        case Block.BC2 | Block.BC6H:
            raise ValueError(f"{block.name} is only read")
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

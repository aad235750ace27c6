"""Decodes and encodes block-compressed pixels (BC1 to BC7) with libraries.

imagecodecs (bcdec) decodes colours; it handles BC2, the one-bit alpha of BC1, and BC3, which has no
three-colour mode. etcpak encodes colours. `pbrlib.textures.scalarblocks` decodes and encodes single channels.
etcpak's own decoders crash the interpreter and are never called. Untrusted files are decoded in child
processes only, since a damaged file may crash either library: see ``pbrlib.convert.workers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias, assert_never

import numpy as np

from pbrlib.errors import DataError
from pbrlib.textures.dds import build_dds
from pbrlib.textures.layouts import Block
from pbrlib.textures.scalarblocks import decode_scalar_blocks, encode_scalar_blocks

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
BlockPixels: TypeAlias = np.ndarray[Any, np.dtype[Any]]

MIN_OPAQUE_ALPHA = 253
"""Minimum alpha of an opaque picture; block compression lowers an alpha of 255 to 253 at worst."""


def is_opaque(alpha: Bytes) -> bool:
    """Return whether no pixel of an alpha channel is transparent; the array may have any shape."""
    return bool(alpha.min() >= MIN_OPAQUE_ALPHA)


def decode_blocks(data: bytes, block: Block, *, width: int, height: int, signed: bool) -> BlockPixels:
    """Decode the blocks of one mip level.

    Args:
        data: The blocks.
        block: The compression.
        width: Width of the level in pixels; padding of the last blocks is cut off.
        height: Height of the level in pixels.
        signed: For BC4 and BC5, whether values are in [-1, 1]; they are returned as 0..255, the encoding of
            stored normals. For BC6H, whether the floats have a sign.

    Returns:
        ``(height, width, C)`` uint8: C is 1 for BC4, 2 for BC5, else 4 (RGBA). BC6H returns 3 channels of
        float16.

    Raises:
        DataError: The blocks do not decode; the caller adds the file name to the message.
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
        raise DataError(
            f"got {block.name} blocks that do not decode ({error}). Save the file again."
        ) from error
    image: BlockPixels = np.asarray(pixels).reshape(rows, columns, channels)[:height, :width].copy()
    if block is Block.BC3:
        alpha = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(-1, 16)[:, :8])
        image[..., 3] = decode_scalar_blocks(alpha, height=rows, width=columns)[:height, :width]
    return image


def _decode_scalars(data: bytes, *, width: int, height: int, signed: bool) -> Bytes:
    """Decode the channel of BC4 or the two channels of BC5; see ``decode_blocks``."""
    rows, columns = -(-height // 4) * 4, -(-width // 4) * 4
    num_channels = len(data) // (rows * columns // 2)
    halves = np.frombuffer(_to_unsigned(data) if signed else data, np.uint8).reshape(-1, num_channels, 8)
    planes = [decode_scalar_blocks(halves[:, i], height=rows, width=columns) for i in range(num_channels)]
    pixels = np.stack(planes, axis=-1)[:height, :width]
    return _SNORM_TO_BYTE[pixels] if signed else np.ascontiguousarray(pixels)


_SNORM_TO_BYTE = np.rint((np.maximum((np.arange(256) - 128) / 127, -1.0) + 1.0) * 127.5).astype(np.uint8)
"""The stored byte of a normal component for each value of BC4_SNORM or BC5_SNORM plus 128."""


def _to_unsigned(data: bytes) -> bytes:
    """Convert blocks of signed values to blocks of unsigned values by adding 128 to both endpoints.

    All interpolated values then rise by 128 too. The order of the endpoints, which selects the mode of a
    block, is unchanged, and so are the two extreme values of the six-value mode.
    """
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 8).copy()
    blocks[:, :2] ^= 0x80
    return blocks.tobytes()


@cache
def _bc7_parameters() -> Any:
    """Return BC7 parameters with equal channel weights; the perceptual default favours green."""
    import etcpak

    parameters = etcpak.BC7CompressBlockParams()
    parameters.init_linear_weights()
    parameters.m_uber_level = 1  # 10 % less error for 33 % more time; higher levels give no further gain
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
            raise ValueError(f"got {block.name}; expected BC1, BC3, BC4, BC5 or BC7, which can be encoded")
        case _:
            assert_never(block)
    return blocks


def encode_dds(levels: Sequence[Bytes], *, block: Block, srgb: bool) -> bytes:
    """Return a DDS file with the given mip levels.

    Args:
        levels: ``(H, W, 4)`` uint8 RGBA, largest first, down to 1 x 1; BC4 stores the red channel, BC5 red
            and green. The sides of the first level are multiples of 4.
        block: The compression.
        srgb: Whether the header declares the values as sRGB; the values themselves are not converted.
    """
    height, width = levels[0].shape[:2]
    mips = []
    for pixels in levels:
        bottom, right = -pixels.shape[0] % 4, -pixels.shape[1] % 4
        mips.append(_compress(np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge"), block))
    return build_dds(mips, width=width, height=height, block=block, srgb=srgb)

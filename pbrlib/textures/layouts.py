"""Pixel layouts of DDS files: compressed blocks, bit masks, floats or palette indices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

_BC1_ERROR_DEGREES = 4
"""Mean angular error of normals in BC1, measured on 25 scanned materials (docs/textures.md)."""


class Block(Enum):
    """Block compressions; the value is the number of the codec. A block covers 4 x 4 pixels."""

    BC1 = 1
    BC2 = 2
    BC3 = 3
    BC4 = 4
    BC5 = 5
    BC6H = 6
    BC7 = 7

    @property
    def num_bytes(self) -> int:
        """Return the number of bytes of a block."""
        return 8 if self in (Block.BC1, Block.BC4) else 16


@dataclass(frozen=True)
class Masks:
    """A pixel of 1 to 8 bytes with the bit masks of red, green, blue and alpha.

    A grey format has three equal colour masks; the mask of a missing channel is 0.
    """

    num_bytes: int
    channels: tuple[int, int, int, int]


@dataclass(frozen=True)
class Floats:
    """A pixel whose channels are floats of 2 or 4 bytes."""

    channel_bytes: int
    num_channels: int

    @property
    def num_bytes(self) -> int:
        """Return the number of bytes of a pixel."""
        return self.channel_bytes * self.num_channels


@dataclass(frozen=True)
class Palette:
    """A pixel of one byte, the index of one of 256 colours.

    ``colours`` are 256 RGBA colours, 1024 bytes.
    """

    colours: bytes
    num_bytes: int = 1


@dataclass(frozen=True)
class PackedFloats:
    """Three unsigned floats in 4 bytes: 11, 11 and 10 bits, each with 5 exponent bits."""

    num_bytes: int = 4


Pixels: TypeAlias = Block | Masks | Floats | PackedFloats | Palette


@dataclass(frozen=True)
class Layout:
    """The storage of pixels and the meaning of their values.

    Attributes:
        name: Name of the format, such as ``BC5_SNORM`` or ``R5G6B5``.
        pixels: How a pixel or a block is stored.
        signed: Whether values are two's complement in [-1, 1] (for BC6H: floats with a sign).
        swizzle: The stored channel (R, G, B, A; 1 for opaque) of red, green, blue and alpha in order; empty
            if the order is the usual one.
        premultiplied: Whether the header declares colours as multiplied by alpha.
    """

    name: str
    pixels: Pixels
    signed: bool = False
    swizzle: str = ""
    premultiplied: bool = False

    @property
    def normal_loss(self) -> str:
        """Return a note on the angular error of normals; empty for 8 bits and more, and for BC3.

        BC3 has the same error as BC1, but older games store all normals in BC3, so a note would carry no
        news.
        """
        match self.pixels:
            case Block.BC1 | Block.BC2:
                return f"{self.name} moves directions by about {_BC1_ERROR_DEGREES} degrees"
            case Palette():
                return f"{self.name} holds at most 256 directions"
            case Masks(_, (red, green, _, _)) if 0 < min(red.bit_count(), green.bit_count()) < 8:
                steps = [1.0 / (2 ** bits.bit_count() - 1) for bits in (red, green)]
                degrees = math.degrees(math.hypot(*steps))
                return f"{self.name} moves directions by up to {degrees:.1f} degrees"
            case _:
                return ""


def num_mip_levels(width: int, height: int) -> int:
    """Return the number of mip levels from the given size down to 1 x 1."""
    return max(width, height).bit_length()


def level_bytes(pixels: Pixels, width: int, height: int) -> int:
    """Return the bytes of a mip level; sizes are rounded up to blocks, uncompressed rows are not padded."""
    if isinstance(pixels, Block):
        return -(-width // 4) * -(-height // 4) * pixels.num_bytes
    return width * height * pixels.num_bytes

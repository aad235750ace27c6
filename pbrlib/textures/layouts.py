"""How the pixels of a DDS file are stored: in compressed blocks, as bits under masks, floats or indices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

_BLOCK_DEGREES = 4
"""How far BC1 moves a direction: the mean over the normals of 25 scanned materials (docs/textures.md)."""


class Block(Enum):
    """Block compressions: the number names the codec; a block covers 4 x 4 pixels."""

    BC1 = 1
    BC2 = 2
    BC3 = 3
    BC4 = 4
    BC5 = 5
    BC6H = 6
    BC7 = 7

    @property
    def num_bytes(self) -> int:
        """Bytes of one block."""
        return 8 if self in (Block.BC1, Block.BC4) else 16


@dataclass(frozen=True)
class Masks:
    """A pixel of 1 to 8 bytes, and the bits of red, green, blue and alpha in it.

    A grey pixel has three equal colour masks; a mask of 0 is a channel that is not stored.
    """

    num_bytes: int
    channels: tuple[int, int, int, int]


@dataclass(frozen=True)
class Floats:
    """A pixel of floats of 2 or 4 bytes each."""

    channel_bytes: int
    num_channels: int

    @property
    def num_bytes(self) -> int:
        """Bytes of one pixel."""
        return self.channel_bytes * self.num_channels


@dataclass(frozen=True)
class Palette:
    """A byte a pixel, the number of one of 256 colours.

    ``colours`` are RGBA, 1024 bytes.
    """

    colours: bytes
    num_bytes: int = 1


@dataclass(frozen=True)
class PackedFloats:
    """Three floats without a sign in 4 bytes: 11, 11 and 10 bits, each with an exponent of 5 bits."""

    num_bytes: int = 4


Pixels: TypeAlias = Block | Masks | Floats | PackedFloats | Palette


@dataclass(frozen=True)
class Layout:
    """The form of the pixels, and what their numbers mean.

    Attributes:
        name: What the format is called: ``BC5_SNORM``, ``R5G6B5``.
        pixels: How a pixel or a block is stored.
        signed: Whether numbers are two's complement (of BC6H: floats with a sign) and stand for [-1, 1].
        swizzle: Which stored channel (R, G, B, A; 1 for opaque) is red, green and so on; empty if each is
            where it belongs.
        premultiplied: Whether colours are declared to be multiplied by alpha.
    """

    name: str
    pixels: Pixels
    signed: bool = False
    swizzle: str = ""
    premultiplied: bool = False

    @property
    def normal_loss(self) -> str:
        """What a normal loses by being stored so; empty for 8 bits and more, and for BC3.

        BC3 moves directions as far as BC1 does, but is what games of its age store every normal in.
        """
        match self.pixels:
            case Block.BC1 | Block.BC2:
                return f"{self.name} moves directions by about {_BLOCK_DEGREES} degrees"
            case Palette():
                return f"{self.name} holds at most 256 directions"
            case Masks(_, (red, green, _, _)) if 0 < min(red.bit_count(), green.bit_count()) < 8:
                steps = [1.0 / (2 ** bits.bit_count() - 1) for bits in (red, green)]
                degrees = math.degrees(math.hypot(*steps))
                return f"{self.name} moves directions by up to {degrees:.1f} degrees"
            case _:
                return ""


def full_chain(width: int, height: int) -> int:
    """Mip levels from the given size down to 1 x 1."""
    return max(width, height).bit_length()


def level_bytes(pixels: Pixels, width: int, height: int) -> int:
    """Bytes of one mip level; blocks are whole, rows of other pixels are not padded."""
    if isinstance(pixels, Block):
        return -(-width // 4) * -(-height // 4) * pixels.num_bytes
    return width * height * pixels.num_bytes

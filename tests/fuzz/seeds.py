"""The seeds of the fuzzer: a small generated file of every format that is read."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from pbrlib.data.shards.codec import encode_tile
from pbrlib.textures.formats import D3D, dxgi_layout, four_cc_layout
from pbrlib.textures.layouts import Block, Layout, Masks, Palette, level_bytes
from tests.convert.textures import dds, picture

SIDES = (1, 3, 16, 33, 64, 256)
"""Sides of the tiles that are decoded; a tile's case begins with the numbers of its two."""

DTYPES = ("uint8", "uint16")

_FOUR_CC = {
    "": b"DXT5",
    "AGB1": b"RXGB",
    "RAB1": b"RxBG",
    "RAG1": b"RBxG",
    "GAB1": b"xRBG",
    "RGA1": b"RGxB",
    "AG": b"xGxR",
}
"""BC3 by its swizzle."""


def plain_dds(top: bytes, *, layout: Layout, width: int, height: int) -> bytes:
    """A DDS file of one level with the shortest header that says what its pixels are."""
    more, pixels = b"", layout.pixels
    match pixels:
        case Block.BC3 if not layout.premultiplied:
            form = _form(0x4, _FOUR_CC[layout.swizzle])
        case Masks() if pixels.num_bytes <= 4 and not layout.premultiplied:
            flags = (0x80000 if layout.signed else 0x40) | bool(pixels.channels[3])
            form = _form(flags, bytes(4), pixels.num_bytes * 8, *pixels.channels)
        case Palette():
            form, more = _form(0x21, bytes(4), 8), pixels.colours
        case _:
            code = next(
                code
                for code, known in _DXGI.items()
                if known.pixels == pixels and known.signed == layout.signed
            )
            more = struct.pack("<5I", code, 3, 0, 1, 2 if layout.premultiplied else 0)
            form = _form(0x4, b"DX10")
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, height, width, 0, 0, 0)
    return head + form + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + more + top


_DXGI = {code: layout for code in range(1, 192) if (layout := dxgi_layout(code))}


def _form(flags: int, four_cc: bytes, bits: int = 0, *masks: int) -> bytes:
    return struct.pack("<2I4s5I", 32, flags, four_cc, bits, *(masks or (0, 0, 0, 0)))


def layouts() -> list[Layout]:
    """Return one file for every pixel layout."""
    names = (b"DXT2", b"DXT4", b"RXGB", b"RxBG", b"xGxR", b"BC4S", b"BC5S", b"BC6S")
    named = [four_cc_layout(name, b"") for name in names]
    found = [*_DXGI.values(), *D3D.values(), *(layout for layout in named if layout)]
    found.append(Layout("P8", Palette(np.random.default_rng(0).bytes(1024))))
    return list({(one.pixels, one.signed, one.swizzle, one.premultiplied): one for one in found}.values())


def dds_seeds() -> list[bytes]:
    """Return every block format with mips and the DX10 header, every layout, padded rows, unusual headers."""
    rng = np.random.default_rng(0)
    written = [dds(picture(8, 16), block=block) for block in Block if block not in (Block.BC2, Block.BC6H)]
    alone = [
        plain_dds(rng.bytes(level_bytes(layout.pixels, 9, 7)), layout=layout, width=9, height=7)
        for layout in layouts()
    ]
    padded = bytearray(plain_dds(rng.bytes(16 * 3), layout=D3D[20], width=5, height=3))
    struct.pack_into("<I", padded, 8, 0x100F)
    struct.pack_into("<I", padded, 20, 16)
    luminance = bytearray(plain_dds(rng.bytes(30), layout=D3D[61], width=5, height=3))
    struct.pack_into("<I", luminance, 80, 0x40000)
    odd = bytearray(written[0])
    for offset, value in ((4, 24), (28, 9), (76, 24), (132, 0), (140, 0)):
        struct.pack_into("<I", odd, offset, value)
    return [*written, *alone, bytes(padded), bytes(luminance), bytes(odd)]


def tile_seeds() -> list[bytes]:
    """Tiles of both types, even and noisy; see ``oracles.check_tile`` for the six bytes before the blob."""
    rng = np.random.default_rng(0)
    cases = []
    for number, dtype in enumerate(DTYPES):
        for down, across, channels in ((0, 0, 1), (1, 2, 3), (4, 3, 2), (5, 5, 1)):
            shape = (SIDES[down], SIDES[across], channels)
            for largest in (0, 3, np.iinfo(dtype).max):
                tile = rng.integers(0, largest, shape, dtype, endpoint=True)
                head = (down, across, channels - 1)
                cases.append(bytes((*head, number, 1, 1)) + encode_tile(tile))
                cases.append(bytes((*head, number | 2, 1, 1)) + tile.tobytes()[:64])
    return cases


def picture_seeds() -> list[bytes]:
    """PNG of every mode, with and without metadata; JPEG, WebP, BMP and TGA."""
    pixels = picture(5, 9)
    modes = ("L", "LA", "RGB", "RGBA", "P", "1")
    pictures = {mode: Image.fromarray(pixels).convert(mode) for mode in modes}
    cases = [_encoded(one, "PNG") for one in pictures.values()]
    cases.append(_encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"))
    exif, linear = Image.Exif(), PngInfo()
    exif[0x0112] = 6
    linear.add(b"gAMA", struct.pack(">I", 100_000))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cases.append(_encoded(pictures["RGB"], "PNG", exif=exif, pnginfo=linear))
    cases.append(_encoded(pictures["RGBA"], "PNG", icc_profile=profile))
    cases += [_encoded(pictures[mode], "JPEG", exif=exif) for mode in ("L", "RGB")]
    cases += [_encoded(pictures["RGBA"], "WEBP", lossless=lossless) for lossless in (True, False)]
    cases += [_encoded(pictures[mode], "BMP") for mode in ("L", "RGB", "1")]
    cases += [_encoded(pictures[mode], "TGA") for mode in ("L", "RGB", "RGBA", "P")]
    cases.append(_encoded(pictures["RGB"], "TGA", compression="tga_rle"))
    return cases


def _encoded(picture: Image.Image, form: str, **settings: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **settings)
    return file.getvalue()


SEEDS = {"dds": dds_seeds, "tile": tile_seeds, "picture": picture_seeds}

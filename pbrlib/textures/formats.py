"""Formats of DDS files by code: DXGI numbers, FourCCs, and D3DFMT numbers in place of a FourCC.

Sources: Microsoft, "DXGI_FORMAT", "D3DFORMAT" and "Programming Guide for DDS"; the swizzles of DXT5 are those
of AMD Compressonator and of the NVIDIA Texture Tools.
"""

from __future__ import annotations

from dataclasses import replace

from pbrlib.textures.layouts import Block, Floats, Layout, Masks, PackedFloats

_GREY8, _GREY16 = (0xFF, 0xFF, 0xFF, 0), (0xFFFF, 0xFFFF, 0xFFFF, 0)
_RGBA8 = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
_RGBA10 = (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)
_RGBA16 = (0xFFFF, 0xFFFF << 16, 0xFFFF << 32, 0xFFFF << 48)


def _masks(name: str, num_bytes: int, *channels: int, signed: bool = False) -> Layout:
    red, green, blue, alpha = channels
    return Layout(name, Masks(num_bytes, (red, green, blue, alpha)), signed=signed)


ALPHA_ONLY = ("A8", "A8_UNORM")
"""Formats whose only channel is alpha; they are read as grey, which such files nearly always contain."""

D3D: dict[int, Layout] = {
    20: _masks("R8G8B8", 3, 0xFF0000, 0xFF00, 0xFF, 0),
    21: _masks("A8R8G8B8", 4, 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    22: _masks("X8R8G8B8", 4, 0xFF0000, 0xFF00, 0xFF, 0),
    23: _masks("R5G6B5", 2, 0xF800, 0x7E0, 0x1F, 0),
    24: _masks("X1R5G5B5", 2, 0x7C00, 0x3E0, 0x1F, 0),
    25: _masks("A1R5G5B5", 2, 0x7C00, 0x3E0, 0x1F, 0x8000),
    26: _masks("A4R4G4B4", 2, 0xF00, 0xF0, 0xF, 0xF000),
    27: _masks("R3G3B2", 1, 0xE0, 0x1C, 0x3, 0),
    28: _masks("A8", 1, *_GREY8),
    29: _masks("A8R3G3B2", 2, 0xE0, 0x1C, 0x3, 0xFF00),
    30: _masks("X4R4G4B4", 2, 0xF00, 0xF0, 0xF, 0),
    31: _masks("A2B10G10R10", 4, *_RGBA10),
    32: _masks("A8B8G8R8", 4, *_RGBA8),
    33: _masks("X8B8G8R8", 4, *_RGBA8[:3], 0),
    34: _masks("G16R16", 4, 0xFFFF, 0xFFFF0000, 0, 0),
    35: _masks("A2R10G10B10", 4, 0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000),
    36: _masks("A16B16G16R16", 8, *_RGBA16),
    50: _masks("L8", 1, *_GREY8),
    51: _masks("A8L8", 2, 0xFF, 0xFF, 0xFF, 0xFF00),
    52: _masks("A4L4", 1, 0xF, 0xF, 0xF, 0xF0),
    60: _masks("V8U8", 2, 0xFF, 0xFF00, 0, 0, signed=True),
    61: _masks("L6V5U5", 2, 0x1F, 0x3E0, 0, 0, signed=True),  # luminance is no part of the direction
    62: _masks("X8L8V8U8", 4, 0xFF, 0xFF00, 0, 0, signed=True),
    63: _masks("Q8W8V8U8", 4, *_RGBA8, signed=True),
    64: _masks("V16U16", 4, 0xFFFF, 0xFFFF0000, 0, 0, signed=True),
    67: _masks("A2W10V10U10", 4, *_RGBA10, signed=True),
    81: _masks("L16", 2, *_GREY16),
    110: _masks("Q16W16V16U16", 8, *_RGBA16, signed=True),
    111: Layout("R16F", Floats(2, 1)),
    112: Layout("G16R16F", Floats(2, 2)),
    113: Layout("A16B16G16R16F", Floats(2, 4)),
    114: Layout("R32F", Floats(4, 1)),
    115: Layout("G32R32F", Floats(4, 2)),
    116: Layout("A32B32G32R32F", Floats(4, 4)),
    117: _masks("CxV8U8", 2, 0xFF, 0xFF00, 0, 0, signed=True),
}
"""Supported formats of Direct3D 9 by number; a DDS file stores the number in place of a FourCC."""

_UNSUPPORTED_D3D = {
    40: "A8P8",
    41: "P8 without its palette",
    70: "D16_LOCKABLE",
    71: "D32",
    73: "D15S1",
    75: "D24S8",
    77: "D24X8",
    79: "D24X4S4",
    80: "D16",
    82: "D32F_LOCKABLE",
    83: "D24FS8",
    118: "A1",
}

_FOUR_CC_LAYOUTS: dict[bytes, Layout] = {
    b"DXT1": Layout("BC1 (DXT1)", Block.BC1),
    b"DXT2": Layout("BC2 (DXT2)", Block.BC2, premultiplied=True),
    b"DXT3": Layout("BC2 (DXT3)", Block.BC2),
    b"DXT4": Layout("BC3 (DXT4)", Block.BC3, premultiplied=True),
    b"DXT5": Layout("BC3 (DXT5)", Block.BC3),
    **dict.fromkeys((b"ATI1", b"BC4U"), Layout("BC4_UNORM", Block.BC4)),
    b"BC4S": Layout("BC4_SNORM", Block.BC4, signed=True),
    **dict.fromkeys((b"ATI2", b"BC5U"), Layout("BC5_UNORM", Block.BC5)),
    b"BC5S": Layout("BC5_SNORM", Block.BC5, signed=True),
    **dict.fromkeys((b"BC6H", b"BC6U"), Layout("BC6H_UF16", Block.BC6H)),
    b"BC6S": Layout("BC6H_SF16", Block.BC6H, signed=True),
    **dict.fromkeys((b"BC7\0", b"BC7U", b"BC7L"), Layout("BC7_UNORM", Block.BC7)),
}
_UNSUPPORTED_FOUR_CC = {
    b"YUY2": "packed video",
    b"UYVY": "packed video",
    b"AYUV": "packed video",
    b"NV12": "packed video",
    b"RGBG": "R8G8_B8G8, packed video",
    b"GRGB": "G8R8_G8B8, packed video",
    b"MET1": "several pictures in one",
    b"CTX1": "a format of the Xbox 360",
    b"XBOX": "tiled for the Xbox One",
    b"ETC1": "a format of phones",
    b"ETC2": "a format of phones",
    b"ETC ": "a format of phones",
    b"PTC2": "PVRTC, a format of phones",
    b"PTC4": "PVRTC, a format of phones",
    b"ATC ": "a format of phones",
    b"ATCA": "a format of phones",
    b"ATCI": "a format of phones",
}

_SWIZZLES = {
    b"RXGB": "AGB1",  # Doom 3
    b"xGBR": "AGB1",
    b"RxBG": "RAB1",
    b"RBxG": "RAG1",
    b"xRBG": "GAB1",
    b"RGxB": "RGA1",
    b"xGxR": "AG",
    b"A2D5": "AG",  # DXT5nm, as the NVIDIA Texture Tools declare it: blue follows from unit length
}
"""Source channels of DXT5 files that store one channel in alpha, where DXT5 is most precise.

The key is the FourCC, or the bit count field of a file whose FourCC is ``DXT5``.
"""

_DXGI_NAME_LIST = """
R32G32B32A32_TYPELESS R32G32B32A32_FLOAT R32G32B32A32_UINT R32G32B32A32_SINT R32G32B32_TYPELESS
R32G32B32_FLOAT R32G32B32_UINT R32G32B32_SINT R16G16B16A16_TYPELESS R16G16B16A16_FLOAT R16G16B16A16_UNORM
R16G16B16A16_UINT R16G16B16A16_SNORM R16G16B16A16_SINT R32G32_TYPELESS R32G32_FLOAT R32G32_UINT R32G32_SINT
R32G8X24_TYPELESS D32_FLOAT_S8X24_UINT R32_FLOAT_X8X24_TYPELESS X32_TYPELESS_G8X24_UINT R10G10B10A2_TYPELESS
R10G10B10A2_UNORM R10G10B10A2_UINT R11G11B10_FLOAT R8G8B8A8_TYPELESS R8G8B8A8_UNORM R8G8B8A8_UNORM_SRGB
R8G8B8A8_UINT R8G8B8A8_SNORM R8G8B8A8_SINT R16G16_TYPELESS R16G16_FLOAT R16G16_UNORM R16G16_UINT
R16G16_SNORM R16G16_SINT R32_TYPELESS D32_FLOAT R32_FLOAT R32_UINT R32_SINT R24G8_TYPELESS D24_UNORM_S8_UINT
R24_UNORM_X8_TYPELESS X24_TYPELESS_G8_UINT R8G8_TYPELESS R8G8_UNORM R8G8_UINT R8G8_SNORM R8G8_SINT
R16_TYPELESS R16_FLOAT D16_UNORM R16_UNORM R16_UINT R16_SNORM R16_SINT R8_TYPELESS R8_UNORM R8_UINT R8_SNORM
R8_SINT A8_UNORM R1_UNORM R9G9B9E5_SHAREDEXP R8G8_B8G8_UNORM G8R8_G8B8_UNORM BC1_TYPELESS BC1_UNORM
BC1_UNORM_SRGB BC2_TYPELESS BC2_UNORM BC2_UNORM_SRGB BC3_TYPELESS BC3_UNORM BC3_UNORM_SRGB BC4_TYPELESS
BC4_UNORM BC4_SNORM BC5_TYPELESS BC5_UNORM BC5_SNORM B5G6R5_UNORM B5G5R5A1_UNORM B8G8R8A8_UNORM
B8G8R8X8_UNORM R10G10B10_XR_BIAS_A2_UNORM B8G8R8A8_TYPELESS B8G8R8A8_UNORM_SRGB B8G8R8X8_TYPELESS
B8G8R8X8_UNORM_SRGB BC6H_TYPELESS BC6H_UF16 BC6H_SF16 BC7_TYPELESS BC7_UNORM BC7_UNORM_SRGB AYUV Y410 Y416
NV12 P010 P016 420_OPAQUE YUY2 Y210 Y216 NV11 AI44 IA44 P8 A8P8 B4G4R4A4_UNORM
"""
_DXGI_NAMES = _DXGI_NAME_LIST.split()
_LATER_DXGI_NAMES = {130: "P208", 131: "V208", 132: "V408", 191: "A4B4G4R4_UNORM"}

_DXGI_PIXELS: dict[str, Block | Masks | Floats | PackedFloats] = {
    "R32G32B32A32_FLOAT": Floats(4, 4),
    "R32G32B32_FLOAT": Floats(4, 3),
    "R32G32_FLOAT": Floats(4, 2),
    "R32_FLOAT": Floats(4, 1),
    "R11G11B10_FLOAT": PackedFloats(),
    "R16G16B16A16_FLOAT": Floats(2, 4),
    "R16G16_FLOAT": Floats(2, 2),
    "R16_FLOAT": Floats(2, 1),
    "R16G16B16A16": Masks(8, _RGBA16),
    "R16G16": Masks(4, (0xFFFF, 0xFFFF0000, 0, 0)),
    "R16": Masks(2, _GREY16),
    "R10G10B10A2": Masks(4, _RGBA10),
    "R8G8B8A8": Masks(4, _RGBA8),
    "R8G8": Masks(2, (0xFF, 0xFF00, 0, 0)),
    "R8": Masks(1, _GREY8),
    "A8": Masks(1, _GREY8),
    "B8G8R8A8": Masks(4, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "B8G8R8X8": Masks(4, (0xFF0000, 0xFF00, 0xFF, 0)),
    "B5G6R5": Masks(2, (0xF800, 0x7E0, 0x1F, 0)),
    "B5G5R5A1": Masks(2, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "B4G4R4A4": Masks(2, (0xF00, 0xF0, 0xF, 0xF000)),
    "A4B4G4R4": Masks(2, (0xF000, 0xF00, 0xF0, 0xF)),
    "BC6H": Block.BC6H,
    **{block.name: block for block in Block if block is not Block.BC6H},
}
"""Pixel layouts by format name; a name without a type covers the normalised and typeless types."""


def dxgi_name(code: int) -> str:
    """Return the name of a DXGI format, or "number N" if it has none."""
    if 1 <= code <= len(_DXGI_NAMES):
        return _DXGI_NAMES[code - 1]
    return _LATER_DXGI_NAMES.get(code, f"number {code}")


def dxgi_layout(code: int) -> Layout | None:
    """Return the layout of a DXGI format; None if it is not supported."""
    name = dxgi_name(code)
    stem, _, kind = name.partition("_")
    if name in _DXGI_PIXELS:
        return Layout(name, _DXGI_PIXELS[name])
    if stem not in _DXGI_PIXELS or kind not in (
        "TYPELESS",
        "UNORM",
        "UNORM_SRGB",
        "SNORM",
        "UF16",
        "SF16",
    ):
        return None
    return Layout(name, _DXGI_PIXELS[stem], signed=kind in ("SNORM", "SF16"))


def four_cc_name(four_cc: bytes) -> str:
    """Return the name of a FourCC for messages, with a description if it is a known unsupported format."""
    number = int.from_bytes(four_cc, "little")
    if number in D3D or number in _UNSUPPORTED_D3D:
        return D3D[number].name if number in D3D else _UNSUPPORTED_D3D[number]
    text = ascii(four_cc.decode("latin-1"))
    return f"{text} ({_UNSUPPORTED_FOUR_CC[four_cc]})" if four_cc in _UNSUPPORTED_FOUR_CC else text


def four_cc_layout(four_cc: bytes, swizzle: bytes) -> Layout | None:
    """Return the layout of a FourCC or of a D3DFMT number in its place; None if it is not supported.

    Args:
        four_cc: The four bytes.
        swizzle: The bit count field, in which some writers of DXT5 store the order of channels.
    """
    if four_cc in _SWIZZLES:
        swizzle, four_cc = four_cc, b"DXT5"
    layout = _FOUR_CC_LAYOUTS.get(four_cc, D3D.get(int.from_bytes(four_cc, "little")))
    if layout is not None and layout.pixels is Block.BC3 and swizzle in _SWIZZLES:
        name = f"BC3 with channels {swizzle.decode()}"
        return replace(layout, name=name, swizzle=_SWIZZLES[swizzle])
    return layout


def masks_name(masks: Masks, *, signed: bool) -> str:
    """Return the Direct3D 9 name of a format with these masks, or a list of the masks if it has none."""
    for layout in D3D.values():
        if layout.name in ALPHA_ONLY:
            continue
        if layout.pixels == masks and layout.signed == signed:
            return layout.name
    listing = " ".join(f"{letter} {mask:#x}" for letter, mask in zip("RGBA", masks.channels, strict=True))
    return f"{masks.num_bytes * 8} bits per pixel ({listing})"

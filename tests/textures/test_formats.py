"""Tests that every DDS format decodes like another reader or like a calculation by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pbrlib.colour import linear_to_srgb
from pbrlib.errors import DataError
from pbrlib.textures.blocks import Bytes, encode_dds
from pbrlib.textures.decode import read_picture, read_texture
from pbrlib.textures.formats import dxgi_layout, dxgi_name
from pbrlib.textures.layouts import Block
from tests.convert.textures import normal, picture

WIDTH, HEIGHT = 5, 3


def container(
    data: bytes,
    *,
    four_cc: bytes = b"\0\0\0\0",
    flags: int = 0x4,
    bits: int = 0,
    masks: tuple[int, ...] = (0, 0, 0, 0),
    dxgi: int | None = None,
    alpha_mode: int = 0,
    pitch: int | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> bytes:
    head_flags = 0x1007 if pitch is None else 0x100F
    head = struct.pack("<4s7I44x", b"DDS ", 124, head_flags, size[1], size[0], pitch or 0, 0, 0)
    if dxgi is not None:
        four_cc = b"DX10"
        data = struct.pack("<5I", dxgi, 3, 0, 1, alpha_mode) + data
    head += struct.pack("<2I4s5I", 32, flags, four_cc, bits, *masks)
    return head + struct.pack("<5I", 0x1000, 0, 0, 0, 0) + data


def noise(num_bytes: int) -> bytes:
    return np.random.default_rng(7).bytes(num_bytes)


def number(code: int) -> bytes:
    return struct.pack("<I", code)


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "texture.dds"
    path.write_bytes(data)
    return path


def words(num_bytes: int) -> np.ndarray:
    """Return random integer pixels that include the smallest and the largest value."""
    raw = np.frombuffer(noise(WIDTH * HEIGHT * num_bytes), np.uint8).reshape(-1, num_bytes).copy()
    raw[0], raw[1] = 0, 255
    return raw


def fields(raw: np.ndarray, *fields: tuple[int, int]) -> list[np.ndarray]:
    """Return the values of each channel from its shift and number of bits."""
    values = [int.from_bytes(pixel.tobytes(), "little") for pixel in raw]
    return [
        np.array([value >> shift & (1 << bits) - 1 for value in values], np.float64).reshape(HEIGHT, WIDTH)
        for shift, bits in fields
    ]


UNSIGNED = {
    "R5G6B5": (23, 85, 2, [(11, 5), (5, 6), (0, 5)]),
    "X1R5G5B5": (24, None, 2, [(10, 5), (5, 5), (0, 5)]),
    "A1R5G5B5": (25, 86, 2, [(10, 5), (5, 5), (0, 5), (15, 1)]),
    "A4R4G4B4": (26, 115, 2, [(8, 4), (4, 4), (0, 4), (12, 4)]),
    "A4B4G4R4": (None, 191, 2, [(12, 4), (8, 4), (4, 4), (0, 4)]),
    "X4R4G4B4": (30, None, 2, [(8, 4), (4, 4), (0, 4)]),
    "R3G3B2": (27, None, 1, [(5, 3), (2, 3), (0, 2)]),
    "A8R3G3B2": (29, None, 2, [(5, 3), (2, 3), (0, 2), (8, 8)]),
    "R8G8B8": (20, None, 3, [(16, 8), (8, 8), (0, 8)]),
    "A8R8G8B8": (21, 87, 4, [(16, 8), (8, 8), (0, 8), (24, 8)]),
    "X8R8G8B8": (22, 88, 4, [(16, 8), (8, 8), (0, 8)]),
    "A8B8G8R8": (32, 28, 4, [(0, 8), (8, 8), (16, 8), (24, 8)]),
    "X8B8G8R8": (33, None, 4, [(0, 8), (8, 8), (16, 8)]),
    "sRGB BGRA8": (None, 91, 4, [(16, 8), (8, 8), (0, 8), (24, 8)]),
    "sRGB BGRX8": (None, 93, 4, [(16, 8), (8, 8), (0, 8)]),
    "sRGB RGBA8": (None, 29, 4, [(0, 8), (8, 8), (16, 8), (24, 8)]),
    "A2B10G10R10": (31, 24, 4, [(0, 10), (10, 10), (20, 10), (30, 2)]),
    "A2R10G10B10": (35, None, 4, [(20, 10), (10, 10), (0, 10), (30, 2)]),
    "A16B16G16R16": (36, 11, 8, [(0, 16), (16, 16), (32, 16), (48, 16)]),
    "G16R16": (34, 35, 4, [(0, 16), (16, 16)]),
    "R8G8": (None, 49, 2, [(0, 8), (8, 8)]),
    "L8": (50, 61, 1, [(0, 8)] * 3),
    "A8": (28, 65, 1, [(0, 8)] * 3),
    "L16": (81, 56, 2, [(0, 16)] * 3),
    "A8L8": (51, None, 2, [(0, 8)] * 3 + [(8, 8)]),
    "A4L4": (52, None, 1, [(0, 4)] * 3 + [(4, 4)]),
}
"""Per name the numbers of Direct3D 9 and DXGI, the bytes of a pixel, and shift and bits of each channel
(Microsoft, "D3DFORMAT" and "DXGI_FORMAT")."""

SIGNED = {
    "V8U8": (60, 51, 2, [(0, 8), (8, 8)]),
    "CxV8U8": (117, None, 2, [(0, 8), (8, 8)]),
    "L6V5U5": (61, None, 2, [(0, 5), (5, 5)]),
    "X8L8V8U8": (62, None, 4, [(0, 8), (8, 8)]),
    "Q8W8V8U8": (63, 31, 4, [(0, 8), (8, 8), (16, 8), (24, 8)]),
    "V16U16": (64, 37, 4, [(0, 16), (16, 16)]),
    "Q16W16V16U16": (110, 13, 8, [(0, 16), (16, 16), (32, 16), (48, 16)]),
    "R8_SNORM": (None, 63, 1, [(0, 8)] * 3),
    "R16_SNORM": (None, 58, 2, [(0, 16)] * 3),
}


def cases(table: dict[str, tuple]) -> list[tuple[str, dict[str, object]]]:
    found = []
    for name, (d3d, dxgi, *_) in table.items():
        if d3d is not None:
            found.append((name, {"four_cc": number(d3d)}))
        if dxgi is not None:
            found.append((name, {"dxgi": dxgi}))
    return found


@pytest.mark.parametrize(("name", "code"), cases(UNSIGNED))
def test_integers_are_scaled_to_255(tmp_path: Path, name: str, code: dict[str, object]) -> None:
    _, _, num_bytes, where = UNSIGNED[name]
    raw = words(num_bytes)
    wanted = [
        np.rint(values * 255 / (2**bits - 1))
        for values, (_, bits) in zip(fields(raw, *where), where, strict=True)
    ]
    if len(wanted) == 3:
        wanted.append(np.full((HEIGHT, WIDTH), 255.0))
    got = read_picture(saved(tmp_path, container(raw.tobytes(), **code)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(got, np.stack(wanted, axis=-1))


@pytest.mark.parametrize(("name", "code"), cases(SIGNED))
def test_signed_values_are_decoded_to_bytes_of_a_stored_normal(
    tmp_path: Path, name: str, code: dict[str, object]
) -> None:
    _, _, num_bytes, where = SIGNED[name]
    raw, wanted = words(num_bytes), []
    for values, (_, bits) in zip(fields(raw, *where), where, strict=True):
        signed = np.where(values >= 2 ** (bits - 1), values - 2**bits, values)
        wanted.append(np.rint((np.maximum(signed / (2 ** (bits - 1) - 1), -1) + 1) * 127.5))
    if len(wanted) == 3:
        wanted.append(np.full((HEIGHT, WIDTH), 255.0))
    got = read_picture(saved(tmp_path, container(raw.tobytes(), **code)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(got, np.stack(wanted, axis=-1))


def test_a_normal_of_signed_bytes_decodes_to_the_original_normal(tmp_path: Path) -> None:
    pixels = normal(HEIGHT, WIDTH)
    signed = (pixels.astype(int) - 128).astype(np.int8)
    full = container(signed.tobytes(), flags=0x80000, bits=32, masks=(0xFF, 0xFF00, 0xFF0000, 0xFF000000))
    assert np.abs(read_picture(saved(tmp_path, full)).astype(int) - pixels).max() <= 1
    two = container(signed[..., :2].tobytes(), flags=0x80000, bits=16, masks=(0xFF, 0xFF00, 0, 0))
    got = read_picture(saved(tmp_path, two))
    assert got.shape == (HEIGHT, WIDTH, 2)
    assert np.abs(got.astype(int) - pixels[..., :2]).max() <= 1


def test_an_alpha_of_two_bits_beside_signed_channels_is_unsigned(tmp_path: Path) -> None:
    raw = words(4)
    (alpha,) = fields(raw, (30, 2))
    got = read_picture(saved(tmp_path, container(raw.tobytes(), four_cc=number(67))))
    np.testing.assert_array_equal(got[..., 3], np.rint(alpha * 85))


@pytest.mark.parametrize(
    ("masks", "order"),
    [
        ((0xFF, 0xFF00, 0xFF0000, 0), (0, 1, 2)),
        ((0xFF0000, 0xFF00, 0xFF, 0), (2, 1, 0)),
        ((0xFF00, 0xFF, 0xFF0000, 0), (1, 0, 2)),
        ((0xFF00, 0xFF0000, 0xFF, 0), (1, 2, 0)),
    ],
)
def test_masks_determine_the_order_of_channels(
    tmp_path: Path, masks: tuple[int, ...], order: tuple[int, ...]
) -> None:
    for num_bytes in (3, 4):
        raw = words(num_bytes).reshape(HEIGHT, WIDTH, num_bytes)
        data = container(raw.tobytes(), flags=0x40, bits=8 * num_bytes, masks=masks)
        np.testing.assert_array_equal(read_picture(saved(tmp_path, data))[..., :3], raw[..., order])


@pytest.mark.parametrize(("flags", "has_alpha"), [(0x41, True), (0x40, False), (0x20001, True), (0x0, False)])
def test_a_single_colour_channel_is_read_as_grey(tmp_path: Path, flags: int, has_alpha: bool) -> None:
    raw = words(2).reshape(HEIGHT, WIDTH, 2)
    data = container(raw.tobytes(), flags=flags, bits=16, masks=(0xFF, 0, 0, 0xFF00))
    got = read_picture(saved(tmp_path, data))
    np.testing.assert_array_equal(got[..., :3], np.repeat(raw[..., :1], 3, axis=-1))
    np.testing.assert_array_equal(got[..., 3], raw[..., 1] if has_alpha else 255)


@pytest.mark.parametrize(
    ("flags", "bits", "code"),
    [
        (0x20000, 8, 50),
        (0x20001, 16, 51),
        (0x20000, 16, 81),
        (0x40, 24, 20),
        (0x40, 32, 22),
        (0x41, 32, 21),
    ],
)
def test_missing_masks_follow_from_flags_and_bits(tmp_path: Path, flags: int, bits: int, code: int) -> None:
    raw = words(bits // 8).tobytes()
    wanted = read_picture(saved(tmp_path, container(raw, four_cc=number(code))))
    texture = read_texture(saved(tmp_path, container(raw, flags=flags, bits=bits)), use="colour")
    np.testing.assert_array_equal(texture.pixels, wanted)
    assert "no channel masks; read as" in texture.notes[0]


def test_a_file_with_only_alpha_is_grey_and_noted(tmp_path: Path) -> None:
    raw = words(1).reshape(HEIGHT, WIDTH, 1)
    data = container(raw.tobytes(), flags=0x2, bits=8, masks=(0, 0, 0, 0xFF))
    texture = read_texture(saved(tmp_path, data), use="colour")
    np.testing.assert_array_equal(texture.pixels[..., :3], np.repeat(raw, 3, axis=-1))
    assert texture.notes == ("has only an alpha channel, read as grey",)


def test_rows_padded_to_four_bytes_are_read_by_their_pitch(tmp_path: Path) -> None:
    raw = words(3).reshape(HEIGHT, WIDTH * 3)
    masks = (0xFF, 0xFF00, 0xFF0000, 0)
    padded = np.pad(raw, ((0, 0), (0, 1)), constant_values=77)
    plain = container(raw.tobytes(), flags=0x40, bits=24, masks=masks)
    wanted = read_picture(saved(tmp_path, plain))
    data = container(padded.tobytes(), flags=0x40, bits=24, masks=masks, pitch=16)
    np.testing.assert_array_equal(read_picture(saved(tmp_path, data)), wanted)
    wrong = container(raw.tobytes(), flags=0x40, bits=24, masks=masks, pitch=16)
    np.testing.assert_array_equal(read_picture(saved(tmp_path, wrong)), wanted)


@pytest.mark.parametrize(("flags", "keeps_alpha"), [(0x20, False), (0x21, True)])
def test_palette_indices_become_colours(tmp_path: Path, flags: int, keeps_alpha: bool) -> None:
    colours = np.random.default_rng(7).integers(0, 256, (256, 4), np.uint8)
    raw = words(1).reshape(HEIGHT, WIDTH)
    data = container(colours.tobytes() + raw.tobytes(), flags=flags, bits=8)
    wanted = colours[raw]
    if not keeps_alpha:
        wanted[..., 3] = 255
    np.testing.assert_array_equal(read_picture(saved(tmp_path, data)), wanted)
    with pytest.raises(DataError, match="bytes of palette; expected 1024"):
        read_picture(saved(tmp_path, data[:600]))


FLOATS = {
    "R16F": (111, 54, "<f2", 1),
    "G16R16F": (112, 34, "<f2", 2),
    "A16B16G16R16F": (113, 10, "<f2", 4),
    "R32F": (114, 41, "<f4", 1),
    "G32R32F": (115, 16, "<f4", 2),
    "R32G32B32": (None, 6, "<f4", 3),
    "A32B32G32R32F": (116, 2, "<f4", 4),
}


@pytest.mark.parametrize(("name", "code"), cases(FLOATS))
def test_floats_are_read_as_data_linear_light_or_normals(
    tmp_path: Path, name: str, code: dict[str, object]
) -> None:
    _, _, kind, channels = FLOATS[name]
    values = np.random.default_rng(7).uniform(-1, 1, (HEIGHT, WIDTH, channels)).astype(kind)
    values[0, 0], values[0, 1], values[0, 2], values[1, 0] = np.nan, np.inf, -np.inf, 3.0
    path = saved(tmp_path, container(values.tobytes(), **code))  # type: ignore[arg-type]
    clean = np.nan_to_num(values.astype(np.float64), posinf=2, neginf=-2)
    unit, direction = np.clip(clean, 0, 1), np.clip(clean * 0.5 + 0.5, 0, 1)
    light = unit.copy()
    light[..., :3] = linear_to_srgb(unit[..., :3].astype(np.float32))
    for use, wanted in (("data", unit), ("colour", light), ("normal", direction)):
        got = read_texture(path, use=use)  # type: ignore[arg-type]
        assert np.abs(got.pixels[..., :channels] - wanted * 255).max() < 0.51
        assert got.pixels.shape[-1] == (4 if channels == 3 else channels)
        assert any("% of the pixels are brighter than 1 and were clipped" in note for note in got.notes)


def test_packed_floats_follow_their_bits(tmp_path: Path) -> None:
    """Microsoft, "DXGI_FORMAT": 6 bits of fraction in red and green, 5 in blue, exponents of 5 bits."""

    def value(code: int, bits: int) -> float:
        exponent, fraction = code >> bits, (code & (1 << bits) - 1) / (1 << bits)
        if exponent == 31:
            return float("nan") if fraction else float("inf")
        return (fraction * 2.0**-14) if exponent == 0 else (1 + fraction) * 2.0 ** (exponent - 15)

    rng = np.random.default_rng(3)
    red, green, blue = (rng.integers(0, 1 << bits, HEIGHT * WIDTH) for bits in (11, 11, 10))
    red[0], green[1], blue[2] = 31 << 6, 31 << 6 | 1, 15 << 5
    data = (red | green << 11 | blue << 22).astype("<u4").tobytes()
    wanted = np.array(
        [[value(r, 6), value(g, 6), value(b, 5)] for r, g, b in zip(red, green, blue, strict=True)]
    )
    unit = np.clip(np.nan_to_num(wanted, nan=0.0), 0, 1).reshape(HEIGHT, WIDTH, 3)
    path = saved(tmp_path, container(data, dxgi=26))
    assert np.abs(read_texture(path, use="data").pixels[..., :3] - unit * 255).max() < 0.51
    light = linear_to_srgb(unit.astype(np.float32))
    assert np.abs(read_texture(path, use="colour").pixels[..., :3] - light * 255).max() < 0.51


def test_floats_of_a_normal_without_negative_values_are_in_0_to_1(tmp_path: Path) -> None:
    pixels = normal(HEIGHT, WIDTH)
    values = (pixels / 255.0).astype("<f4")
    texture = read_texture(saved(tmp_path, container(values.tobytes(), dxgi=2)), use="normal")
    np.testing.assert_array_equal(texture.pixels, pixels)
    assert texture.notes == ()


def pillow(path: Path) -> Bytes:
    with Image.open(path, formats=("DDS",)) as opened:
        return np.asarray(opened)


BLOCKS = {Block.BC1: 71, Block.BC2: 74, Block.BC3: 77, Block.BC4: 80, Block.BC5: 83, Block.BC7: 98}
SRGB = {Block.BC1: 72, Block.BC2: 75, Block.BC3: 78, Block.BC7: 99}


@pytest.mark.parametrize("block", BLOCKS)
def test_random_blocks_decode_as_pillow_decodes_them(tmp_path: Path, block: Block) -> None:
    size = (32, 24)
    data = container(noise(size[0] * size[1] // 16 * block.num_bytes), dxgi=BLOCKS[block], size=size)
    path = saved(tmp_path, data)
    got, wanted = read_picture(path), pillow(path)
    wanted = wanted.reshape(*wanted.shape[:2], -1)[..., : got.shape[-1]]
    assert np.abs(got[..., : wanted.shape[-1]].astype(int) - wanted).max() <= 1  # rounding of interpolations


@pytest.mark.parametrize(
    ("code", "other"),
    [
        *(({"dxgi": code}, {"dxgi": BLOCKS[block]}) for block, code in SRGB.items()),
        ({"four_cc": b"BC6H"}, {"dxgi": 95}),
        ({"four_cc": b"BC4S"}, {"dxgi": 81}),
        ({"four_cc": b"BC7\0"}, {"dxgi": 98}),
    ],
)
def test_two_codes_of_a_format_decode_equally(
    tmp_path: Path, code: dict[str, object], other: dict[str, object]
) -> None:
    data = noise(256)
    first = read_picture(saved(tmp_path, container(data, size=(16, 16), **code)))  # type: ignore[arg-type]
    second = read_picture(saved(tmp_path, container(data, size=(16, 16), **other)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("code", [{"dxgi": 84}, {"four_cc": b"BC5S"}])
def test_random_signed_blocks_decode_as_pillow_decodes_them(tmp_path: Path, code: dict[str, object]) -> None:
    size = (32, 24)
    path = saved(tmp_path, container(noise(size[0] * size[1]), size=size, **code))  # type: ignore[arg-type]
    raised = pillow(path)[..., :2].astype(np.float64)  # 128 added
    wanted = (np.maximum((raised - 128) / 127, -1) + 1) * 127.5
    got = read_picture(path)
    assert got.shape == (24, 32, 2)
    assert np.abs(got - wanted).max() <= 1.6


@pytest.mark.parametrize(
    ("ends", "numbers", "wanted"),
    [
        ((127, -127), (0, 1), (1.0, -1.0)),
        ((127, -127), (2, 7), (5 / 7, -5 / 7)),  # a first end that is larger: six steps between
        ((-50, 70), (6, 7), (-1.0, 1.0)),  # a smaller: four steps and both extremes
        ((-128, -128), (0, 1), (-1.0, -1.0)),
        ((0, -1), (0, 1), (0.0, -1 / 127)),
    ],
)
@pytest.mark.parametrize("code", [81, 84])
def test_signed_blocks_follow_the_specification(
    tmp_path: Path, code: int, ends: tuple[int, int], numbers: tuple[int, int], wanted: tuple[float, float]
) -> None:
    """Microsoft, "BC4 and BC5": eight or six values between the ends, three bits a pixel choose."""
    bits = sum(numbers[pixel % 2] << 3 * pixel for pixel in range(16))
    half = struct.pack("<2b", *ends) + bits.to_bytes(6, "little")
    data = half if code == 81 else half * 2
    got = read_picture(saved(tmp_path, container(data, dxgi=code, size=(4, 4))))
    assert got.shape == (4, 4, 1 if code == 81 else 2)
    assert np.abs(got[0, :2, -1] - (np.array(wanted) + 1) * 127.5).max() <= 1


def test_blocks_of_floats_decode_as_pillow_decodes_them(tmp_path: Path) -> None:
    size = (32, 24)
    path = saved(tmp_path, container(noise(size[0] * size[1]), size=size, dxgi=95))
    got = read_picture(path)
    assert got.shape == (24, 32, 4)
    assert np.abs(got[..., :3].astype(int) - pillow(path)[..., :3]).max() <= 1


def blocks_of(pixels: Bytes, block: Block) -> bytes:
    """Return only the blocks of the largest level."""
    height, width = pixels.shape[:2]
    whole = encode_dds(chain(pixels), block=block, srgb=False)
    return whole[148 : 148 + width * height // 16 * block.num_bytes]


def chain(pixels: Bytes) -> list[Bytes]:
    levels = [pixels]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(levels[-1][::2, ::2])
    return levels


SWIZZLES = {
    b"RXGB": "_GBR",
    b"xGBR": "_GBR",
    b"RxBG": "R_BG",
    b"RBxG": "RB_G",
    b"xRBG": "_RBG",
    b"RGxB": "RG_B",
}


@pytest.mark.parametrize(("four_cc", "stored"), SWIZZLES.items())
def test_swizzled_channels_are_reordered(tmp_path: Path, four_cc: bytes, stored: str) -> None:
    pixels = picture()
    moved = np.zeros_like(pixels)
    for channel, letter in enumerate(stored):
        if letter != "_":
            moved[..., channel] = pixels[..., "RGB".index(letter)]
    data = blocks_of(moved, Block.BC3)
    for settings in ({"four_cc": four_cc}, {"four_cc": b"DXT5", "bits": int.from_bytes(four_cc, "little")}):
        texture = read_texture(saved(tmp_path, container(data, size=(16, 16), **settings)), use="colour")  # type: ignore[arg-type]
        assert np.abs(texture.pixels.astype(int) - pixels).mean() < 8
        assert texture.notes == (f"channels reordered from BC3 with channels {four_cc.decode()}",)


@pytest.mark.parametrize("settings", [{"four_cc": b"xGxR"}, {"four_cc": b"DXT5", "bits": 0x35443241}])
def test_a_declared_dxt5nm_has_two_channels(tmp_path: Path, settings: dict[str, object]) -> None:
    pixels = normal()
    moved = np.stack(
        (np.full((16, 16), 255, np.uint8), pixels[..., 1], pixels[..., 1], pixels[..., 0]), axis=-1
    )
    data = container(blocks_of(moved, Block.BC3), size=(16, 16), **settings)  # type: ignore[arg-type]
    got = read_picture(saved(tmp_path, data))
    assert got.shape == (16, 16, 2)
    assert np.abs(got.astype(int) - pixels[..., :2]).max() <= 4


@pytest.mark.parametrize("bits", [0, 0x59583241], ids=["plain", "A2XY"])
def test_ati2_has_x_first(tmp_path: Path, bits: int) -> None:
    pixels = normal()
    pixels[..., 0] = 40
    data = container(blocks_of(pixels, Block.BC5), four_cc=b"ATI2", bits=bits, size=(16, 16))
    assert np.abs(read_picture(saved(tmp_path, data)).astype(int) - pixels[..., :2]).max() <= 3


@pytest.mark.parametrize(
    ("block", "settings"),
    [
        (Block.BC2, {"four_cc": b"DXT2"}),
        (Block.BC3, {"four_cc": b"DXT4"}),
        (Block.BC7, {"dxgi": 99, "alpha_mode": 2}),
    ],
)
def test_premultiplied_alpha_is_divided_out(
    tmp_path: Path, block: Block, settings: dict[str, object]
) -> None:
    pixels = picture()
    pixels[..., 3] = 17 * np.linspace(5, 15, 16).astype(np.uint8)[:, None]
    stored = pixels.copy()
    stored[..., :3] = np.rint(pixels[..., :3] * (pixels[..., 3:] / 255.0))
    if block is Block.BC2:  # four bits of alpha, and colours as in BC1
        alpha, colours = stored[..., 3] // 17, blocks_of(stored, Block.BC3)
        tiles = alpha.reshape(4, 4, 4, 4).transpose(0, 2, 1, 3).reshape(16, 8, 2)
        halves = (tiles[..., 0] | tiles[..., 1] << 4).astype(np.uint8)
        data = b"".join(halves[n].tobytes() + colours[16 * n + 8 : 16 * n + 16] for n in range(16))
    else:
        data = blocks_of(stored, block)
    texture = read_texture(saved(tmp_path, container(data, size=(16, 16), **settings)), use="colour")  # type: ignore[arg-type]
    assert np.abs(texture.pixels.astype(int) - pixels).mean() < 7
    assert texture.notes == (
        "premultiplied alpha divided out; 0% of the pixels are transparent and stay dark",
    )


def test_colours_above_premultiplied_alpha_are_unchanged_and_noted(tmp_path: Path) -> None:
    pixels = picture(alpha=40)
    data = container(blocks_of(pixels, Block.BC3), four_cc=b"DXT4", size=(16, 16))
    plain = container(blocks_of(pixels, Block.BC3), four_cc=b"DXT5", size=(16, 16))
    wanted = read_picture(saved(tmp_path, plain))
    texture = read_texture(saved(tmp_path, data), use="colour")
    np.testing.assert_array_equal(texture.pixels, wanted)
    assert "declared as premultiplied, but colours exceed alpha" in texture.notes[0]


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({"four_cc": b"DXT1"}, "BC1 (DXT1) moves directions by about 4 degrees"),
        ({"four_cc": b"DXT5"}, None),
        ({"four_cc": b"ATI2"}, None),
        ({"four_cc": number(23)}, "R5G6B5 moves directions by up to 2.1 degrees"),
        ({"dxgi": 115}, "B4G4R4A4_UNORM moves directions by up to 5.4 degrees"),
        ({"dxgi": 24}, None),
        ({"dxgi": 28}, None),
        ({"flags": 0x20, "bits": 8}, "P8 holds at most 256 directions"),
    ],
)
def test_a_normal_in_a_coarse_format_has_a_note_on_its_error(
    tmp_path: Path, settings: dict[str, object], loss: str | None
) -> None:
    path = saved(tmp_path, container(noise(2048), size=(4, 4), **settings))  # type: ignore[arg-type]
    assert read_texture(path, use="normal").notes == (() if loss is None else (loss,))
    assert read_texture(path, use="colour").notes == ()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"dxgi": 68}, "DXGI format R8G8_B8G8_UNORM"),
        ({"dxgi": 107}, "DXGI format YUY2"),
        ({"dxgi": 67}, "DXGI format R9G9B9E5_SHAREDEXP"),
        ({"dxgi": 30}, "DXGI format R8G8B8A8_UINT"),
        ({"dxgi": 132}, "DXGI format V408"),
        ({"four_cc": b"YUY2"}, r"FourCC 'YUY2' \(packed video\)"),
        ({"four_cc": b"ETC1"}, r"FourCC 'ETC1' \(a format of phones\)"),
        ({"four_cc": number(75)}, "FourCC D24S8"),
        ({"four_cc": number(40)}, "FourCC A8P8"),
        ({"flags": 0x40, "bits": 12, "masks": (0xF00, 0xF0, 0xF, 0)}, "got 12 bits per pixel"),
        ({"flags": 0x40, "bits": 16}, "got no colour mask"),
        ({"flags": 0x200, "bits": 16, "masks": (0xFF00, 0xFF, 0xFF, 0)}, "got YUV pixels"),
        ({"flags": 0x21, "bits": 16}, "got palette indices of 16 bits"),
        ({"flags": 0x8, "bits": 4}, "got palette indices of 4 bits"),
    ],
)
def test_an_unsupported_format_is_an_error_that_names_it(
    tmp_path: Path, settings: dict[str, object], name: str
) -> None:
    path = saved(tmp_path, container(bytes(4096), size=(16, 16), **settings))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"texture\.dds: .*{name}.*Save it as BC7 or as uncompressed RGBA8"):
        read_picture(path)


def test_all_types_of_a_supported_format_are_read() -> None:
    read = {dxgi_name(code) for code in range(1, 192) if dxgi_layout(code)}
    assert {"BC1_TYPELESS", "BC1_UNORM", "BC1_UNORM_SRGB", "BC4_SNORM", "BC5_SNORM", "BC6H_SF16"} <= read
    assert {name for name in read if name.endswith(("_UINT", "_SINT"))} == set()
    assert [dxgi_name(code) for code in (1, 28, 71, 98, 115, 191)] == [
        "R32G32B32A32_TYPELESS",
        "R8G8B8A8_UNORM",
        "BC1_UNORM",
        "BC7_UNORM",
        "B4G4R4A4_UNORM",
        "A4B4G4R4_UNORM",
    ]

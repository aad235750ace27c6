import struct
from pathlib import Path

import numpy as np
import pytest

from pbrlib.errors import DataError
from pbrlib.textures.dds import MAX_SIZE, read_header
from pbrlib.textures.decode import read_picture, read_texture
from pbrlib.textures.layouts import Block, Masks, num_mip_levels
from tests.convert.textures import dds, picture

WIDTH, HEIGHT, MIPS, FORMAT_FLAGS, FOUR_CC, CAPS2, DXGI = 16, 12, 28, 80, 84, 112, 128


def legacy(four_cc: bytes, data: bytes, *, width: int = 16, height: int = 16) -> bytes:
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, height, width, 0, 0, 0)
    return (
        head
        + struct.pack("<2I4s5I", 32, 4, four_cc, 0, 0, 0, 0, 0)
        + struct.pack("<5I", 0x1000, 0, 0, 0, 0)
        + data
    )


def masked(
    data: bytes, *, bits: int, masks: tuple[int, int, int, int], flags: int, width: int, height: int
) -> bytes:
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, height, width, 0, 0, 0)
    return (
        head
        + struct.pack("<2I4s5I", 32, flags, b"\0" * 4, bits, *masks)
        + struct.pack("<5I", 0x1000, 0, 0, 0, 0)
        + data
    )


def patched(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "texture.dds"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("block", "channels", "tolerance"),
    [(Block.BC1, 3, 8), (Block.BC3, 4, 8), (Block.BC4, 1, 3), (Block.BC5, 2, 3), (Block.BC7, 4, 4)],
)
def test_encoded_channels_decode_to_the_same_values(
    tmp_path: Path, block: Block, channels: int, tolerance: int
) -> None:
    pixels = picture(32, 24)
    pixels[..., 3] = np.linspace(0, 255, 24).astype(np.uint8)
    decoded = read_picture(saved(tmp_path, dds(pixels, block=block)))
    assert decoded.shape[:2] == (32, 24)
    error = np.abs(decoded[..., :channels].astype(int) - pixels[..., :channels]).mean(axis=(0, 1))
    assert error.max() < tolerance


def test_an_opaque_bc1_texture_has_no_transparent_pixel(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    noise[..., 3] = 255
    assert read_picture(saved(tmp_path, dds(noise, block=Block.BC1)))[..., 3].min() == 255


@pytest.mark.parametrize(
    ("srgb", "block", "code"),
    [
        (True, Block.BC1, 72),
        (False, Block.BC1, 71),
        (True, Block.BC7, 99),
        (False, Block.BC7, 98),
        (False, Block.BC4, 80),
    ],
)
def test_the_colour_space_is_written_as_a_dxgi_code(srgb: bool, block: Block, code: int) -> None:
    assert struct.unpack_from("<I", dds(picture(), block=block, srgb=srgb), DXGI) == (code,)


def test_a_written_chain_is_complete(tmp_path: Path) -> None:
    header = read_header(saved(tmp_path, dds(picture(16, 32))))
    assert (header.width, header.height, header.num_mips) == (32, 16, num_mip_levels(32, 16))
    assert header.num_mips == 6


@pytest.mark.parametrize("code", [72, 75, 78, 87, 91, 93, 99])
def test_srgb_formats_decode_like_their_linear_formats(tmp_path: Path, code: int) -> None:
    header = read_header(saved(tmp_path, patched(dds(picture()) + bytes(4096), DXGI, code)))
    assert isinstance(header.pixels, Block | Masks)


@pytest.mark.parametrize("four_cc", [b"DXT1", b"DXT3", b"DXT5", b"ATI1", b"BC4U", b"ATI2", b"BC5U"])
def test_legacy_four_cc_formats_decode(tmp_path: Path, four_cc: bytes) -> None:
    pixels = read_picture(saved(tmp_path, legacy(four_cc, bytes(256))))
    assert pixels.shape[:2] == (16, 16)
    assert pixels[..., 0].max() == 0


def test_sizes_that_are_no_multiple_of_four_are_cropped_after_decoding(tmp_path: Path) -> None:
    assert read_picture(saved(tmp_path, legacy(b"DXT1", bytes(8 * 2), width=5, height=3))).shape == (3, 5, 4)


RED_GREEN = np.array([[[200, 10, 30, 40], [0, 255, 128, 255]]], np.uint8)


@pytest.mark.parametrize(
    ("data", "bits", "masks", "flags", "wanted"),
    [
        (RED_GREEN.tobytes(), 32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 0x41, RED_GREEN),
        (RED_GREEN[..., [2, 1, 0, 3]].tobytes(), 32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0x41, RED_GREEN),
        (RED_GREEN[..., [2, 1, 0, 3]].tobytes(), 32, (0xFF0000, 0xFF00, 0xFF, 0), 0x40, None),
        (RED_GREEN[..., [2, 1, 0]].tobytes(), 24, (0xFF0000, 0xFF00, 0xFF, 0), 0x40, None),
        (bytes([7, 250]), 8, (0xFF, 0, 0, 0), 0x20000, [[[7, 7, 7, 255], [250, 250, 250, 255]]]),
        (
            struct.pack("<2H", 0xF800, 0x001F),
            16,
            (0xF800, 0x7E0, 0x1F, 0),
            0x40,
            [[[255, 0, 0, 255], [0, 0, 255, 255]]],
        ),
    ],
    ids=["RGBA8", "BGRA8", "BGRX8", "BGR8", "L8", "R5G6B5"],
)
def test_uncompressed_pixels_follow_their_masks(
    tmp_path: Path, data: bytes, bits: int, masks: tuple[int, int, int, int], flags: int, wanted: object
) -> None:
    path = saved(tmp_path, masked(data, bits=bits, masks=masks, flags=flags, width=2, height=1))
    expected = np.concatenate((RED_GREEN[..., :3], [[[255], [255]]]), axis=-1) if wanted is None else wanted
    np.testing.assert_array_equal(read_picture(path), expected)


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (0, 0, "starts with"),
        (WIDTH, 0, "width 0"),
        (WIDTH, 0xFFFFFFFF, "width 4294967295"),
        (HEIGHT, MAX_SIZE + 1, f"height {MAX_SIZE + 1}"),
        (WIDTH, MAX_SIZE, "cut off: copy or download it again"),
        (FOUR_CC, 0x31313131, "FourCC '1111', which is not supported"),
        (CAPS2, 0x200, "a cube map of 6 faces;"),
        (CAPS2, 0x600, "a cube map of 1 face;"),
        (DXGI, 1000, "DXGI format number 1000, which is not supported"),
        (DXGI, 45, "DXGI format D24_UNORM_S8_UINT, which is not supported"),
        (DXGI + 8, 4, "a cube map"),
        (DXGI + 12, 2, "an array of 2 textures"),
    ],
)
def test_an_invalid_header_is_an_error_that_names_the_file_and_the_field(
    tmp_path: Path, offset: int, value: int, words: str
) -> None:
    path = saved(tmp_path, patched(dds(picture()), offset, value))
    with pytest.raises(DataError) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (4, 0, "header size 0 instead of 124"),
        (4, 24, "header size 24 instead of 124"),
        (8, 0, ""),
        (20, 0xFFFFFFFF, ""),
        (MIPS, 0, ""),
        (MIPS, 6, "mip count 6; 16 x 16 px have at most 5"),
        (MIPS, 4_000_000_000, "mip count 4000000000; 16 x 16 px have at most 5"),
        (76, 0, "pixel format size 0 instead of 32"),
        (76, 24, "pixel format size 24 instead of 32"),
        (FORMAT_FLAGS, 0, "pixel format flags 0x0 without the flag of a FourCC"),
        (FORMAT_FLAGS, 0x80000000, "pixel format flags 0x80000000 without the flag of a FourCC"),
        (CAPS2 - 4, 0, ""),
        (DXGI + 4, 0, "DX10 dimension 0 instead of 3"),
        (DXGI + 4, 2, "DX10 dimension 2 instead of 3"),
        (DXGI + 4, 4, ""),
        (DXGI + 12, 0, "DX10 array size 0 instead of 1"),
    ],
)
def test_a_file_with_a_complete_largest_level_is_read_despite_wrong_header_fields(
    tmp_path: Path, offset: int, value: int, words: str
) -> None:
    wanted = read_picture(saved(tmp_path, dds(picture())))
    texture = read_texture(saved(tmp_path, patched(dds(picture()), offset, value)), use="colour")
    np.testing.assert_array_equal(texture.pixels, wanted)
    if words:
        assert texture.notes == (
            f"header has wrong values ({words}), which a game may reject; save the file again",
        )
    else:
        assert texture.notes == ()


def test_missing_small_mips_are_noted_and_an_incomplete_largest_level_is_an_error(tmp_path: Path) -> None:
    complete = dds(picture(), block=Block.BC1)
    top = 128 + 20 + 16 * 8
    wanted = read_picture(saved(tmp_path, complete))
    for num_bytes, left in ((top, 1), (top + 32 - 1, 1), (top + 32, 2), (len(complete) - 1, 4)):
        texture = read_texture(saved(tmp_path, complete[:num_bytes]), use="colour")
        np.testing.assert_array_equal(texture.pixels, wanted)
        assert f"({left} complete mip levels of 5 declared)" in texture.notes[0]
        assert read_header(saved(tmp_path, complete[:num_bytes])).num_mips == left
    with pytest.raises(DataError, match=f"got {top - 1} bytes; expected at least {top} for 16 x 16"):
        read_picture(saved(tmp_path, complete[: top - 1]))


@pytest.mark.parametrize("place", ["caps", "flags", "DX10"])
def test_a_volume_is_an_error_and_a_volume_of_one_slice_is_a_flat_texture(tmp_path: Path, place: str) -> None:
    data = patched(dds(picture()), 24, 4)
    offset, value = {"caps": (CAPS2, 0x200000), "flags": (8, 0x801007), "DX10": (DXGI + 4, 4)}[place]
    with pytest.raises(DataError, match="got a volume of 4 slices; expected a flat texture"):
        read_header(saved(tmp_path, patched(data, offset, value)))
    assert read_header(saved(tmp_path, patched(patched(data, 24, 1), offset, value))).width == 16


@pytest.mark.parametrize("num_bytes", [0, 3, 60, 127, 130, 200])
def test_a_file_cut_off_anywhere_is_a_data_error(tmp_path: Path, num_bytes: int) -> None:
    with pytest.raises(DataError):
        read_picture(saved(tmp_path, dds(picture())[:num_bytes]))


def test_bits_of_a_mask_must_be_adjacent(tmp_path: Path) -> None:
    data = masked(bytes(8), bits=32, masks=(0b1011, 0xFF00, 0xFF0000, 0), flags=0x40, width=2, height=1)
    with pytest.raises(DataError, match="mask 0xb of channel R"):
        read_header(saved(tmp_path, data))


def test_a_huge_size_is_an_error_before_memory_is_allocated(tmp_path: Path) -> None:
    data = patched(patched(legacy(b"DXT5", bytes(256)), WIDTH, MAX_SIZE), HEIGHT, MAX_SIZE)
    with pytest.raises(DataError, match="expected at least 268435584"):
        read_picture(saved(tmp_path, data))


def test_mutated_files_raise_no_error_but_data_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    originals = [
        dds(picture(), block=block) for block in (Block.BC1, Block.BC3, Block.BC4, Block.BC5, Block.BC7)
    ] + [masked(bytes(1024), bits=32, masks=(0xFF, 0xFF00, 0xFF0000, 0), flags=0x41, width=16, height=16)]
    outcomes = {"read": 0, "refused": 0}
    for case in range(600):
        data = bytearray(originals[case % len(originals)])
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(0, 148 if rng.random() < 0.8 else len(data)))] = int(rng.integers(0, 256))
        if rng.random() < 0.2:
            data = data[: int(rng.integers(0, len(data)))]
        try:
            read_picture(saved(tmp_path, bytes(data)))
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50, outcomes

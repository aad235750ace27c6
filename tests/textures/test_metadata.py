"""Tests that metadata is applied to colours and never to data or normals."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from pbrlib.colour import linear_to_srgb, srgb_to_linear
from pbrlib.convert.conversion import Settings
from pbrlib.convert.runner import convert_tree
from pbrlib.data.materials.decoding import decode_pixels
from pbrlib.textures.decode import read_texture
from tests.convert.textures import FakeNetworks, normal, picture

PIXELS = picture(6, 10)[..., :3]


def saved(folder: Path, pixels: np.ndarray, *, chunks: dict[bytes, bytes], **settings: object) -> Path:
    info = PngInfo()
    for name, body in chunks.items():
        info.add(name, body)
    path = folder / "picture.png"
    Image.fromarray(pixels).save(path, pnginfo=info, **settings)
    return path


def gama(exponent: float) -> bytes:
    return struct.pack(">I", round(exponent * 100_000))


def display_p3() -> bytes:
    """A matrix profile of Display P3 (D65 adapted to D50, SMPTE EG 432-1) with a power of 2.2."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH2x", 1, round(2.2 * 256))
    text = b"Display P3"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(79)
    tags = {
        b"desc": described + bytes(-len(described) % 4),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.5151, 0.2412, -0.0011),
        b"gXYZ": xyz(0.2920, 0.6922, 0.0419),
        b"bXYZ": xyz(0.1571, 0.0666, 0.7841),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">2I", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D) + bytes(48)
    return head[:128] + table + body


def test_colours_of_linear_light_become_srgb(tmp_path: Path) -> None:
    light = np.rint(srgb_to_linear(PIXELS.astype(np.float32) / 255.0) * 255.0).astype(np.uint8)
    texture = read_texture(saved(tmp_path, light, chunks={b"gAMA": gama(1.0)}), use="colour")
    wanted = np.rint(linear_to_srgb(light.astype(np.float32) / 255.0) * 255.0)
    np.testing.assert_array_equal(texture.pixels[..., :3], wanted)
    assert np.abs(texture.pixels[..., :3].astype(int) - PIXELS).max() <= 3
    assert texture.notes == ("colours converted from gAMA 1 to sRGB",)


def test_alpha_is_not_converted(tmp_path: Path) -> None:
    for mode in ("RGBA", "LA"):
        path = tmp_path / f"{mode}.png"
        info = PngInfo()
        info.add(b"gAMA", gama(1.0))
        Image.fromarray(picture(alpha=90)).convert(mode).save(path, pnginfo=info)
        assert (read_texture(path, use="colour").pixels[..., 3] == 90).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_every_mode_of_linear_light_becomes_the_same_srgb(tmp_path: Path, mode: str) -> None:
    info, path = PngInfo(), tmp_path / "picture.png"
    info.add(b"gAMA", gama(1.0))
    given = Image.fromarray(PIXELS).convert(mode)
    given.save(path, pnginfo=info)
    light = np.asarray(given.convert("RGB")).astype(np.float32) / 255.0
    got = read_texture(path, use="colour").pixels[..., :3]
    np.testing.assert_array_equal(got, np.rint(linear_to_srgb(light) * 255.0))


@pytest.mark.parametrize(
    "chunks",
    [
        {},
        {b"gAMA": gama(1 / 2.2)},
        {b"sRGB": b"\0", b"gAMA": gama(1.0)},  # the specification: a reader that knows sRGB ignores gAMA
        {b"sRGB": b"\0"},
    ],
)
def test_srgb_pictures_are_unchanged_and_have_no_note(tmp_path: Path, chunks: dict[bytes, bytes]) -> None:
    texture = read_texture(saved(tmp_path, PIXELS, chunks=chunks), use="colour")
    np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
    assert texture.notes == ()


@pytest.mark.parametrize("use", ["normal", "data"])
def test_data_and_normals_are_not_converted(tmp_path: Path, use: str) -> None:
    for chunks, profile in (({b"gAMA": gama(1.0)}, None), ({}, display_p3())):
        path = saved(tmp_path, PIXELS, chunks=chunks, icc_profile=profile)
        texture = read_texture(path, use=use)  # type: ignore[arg-type]
        np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
        assert texture.notes == ()


def chrm(*places: float) -> bytes:
    return struct.pack(">8I", *(round(place * 100_000) for place in places))


SRGB_PLACES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
P3_PLACES = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


@pytest.mark.parametrize(
    ("chunks", "notes"),
    [
        ({b"cHRM": chrm(*SRGB_PLACES)}, 0),
        ({b"cHRM": chrm(*P3_PLACES)}, 1),
        ({b"cHRM": chrm(*P3_PLACES), b"sRGB": b"\0"}, 0),
        ({b"cICP": bytes((1, 13, 0, 1))}, 0),
        ({b"cICP": bytes((1, 13, 0, 1)), b"gAMA": gama(1.0)}, 0),  # cICP comes first
        ({b"cICP": bytes((9, 16, 0, 1))}, 1),
        ({b"cICP": b"\x01"}, 0),
    ],
)
def test_ignored_primaries_and_cicp_are_noted(tmp_path: Path, chunks: dict[bytes, bytes], notes: int) -> None:
    texture = read_texture(saved(tmp_path, PIXELS, chunks=chunks), use="colour")
    np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
    assert len(texture.notes) == notes
    assert all("not applied" in note for note in texture.notes)


def test_linear_light_by_cicp_becomes_srgb(tmp_path: Path) -> None:
    path = saved(tmp_path, PIXELS, chunks={b"cICP": bytes((1, 8, 0, 1))})
    wanted = linear_to_srgb(PIXELS.astype(np.float32) / 255) * 255
    assert np.abs(read_texture(path, use="colour").pixels[..., :3] - wanted).max() <= 0.51


def test_a_turned_picture_keeps_its_cicp(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    path = saved(tmp_path, PIXELS, chunks={b"cICP": bytes((1, 8, 0, 1))}, exif=exif)
    assert "colours converted from cICP 1 to sRGB" in read_texture(path, use="colour").notes


def test_other_chunks_are_applied_beside_an_unknown_cicp(tmp_path: Path) -> None:
    path = saved(tmp_path, PIXELS, chunks={b"cICP": bytes((9, 18, 0, 1)), b"gAMA": gama(1.0)})
    notes = read_texture(path, use="colour").notes
    assert [note.split(" ")[0] for note in notes] == ["cICP", "colours"]


def test_an_invalid_gamma_is_noted(tmp_path: Path) -> None:
    texture = read_texture(saved(tmp_path, PIXELS, chunks={b"gAMA": gama(30.0)}), use="colour")
    np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
    assert texture.notes == ("gAMA 30 is invalid; colours are read as sRGB",)


def test_an_srgb_profile_changes_nothing_and_has_no_note(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    texture = read_texture(saved(tmp_path, PIXELS, chunks={}, icc_profile=profile), use="colour")
    np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
    assert texture.notes == ()


def test_colours_of_a_wide_profile_become_srgb(tmp_path: Path) -> None:
    grey, orange = (128, 128, 128), (200, 120, 60)
    pixels = np.array([[grey, orange]], np.uint8)
    texture = read_texture(saved(tmp_path, pixels, chunks={}, icc_profile=display_p3()), use="colour")
    to_srgb = np.array(  # Display P3 to sRGB, both linear (W3C, CSS Color 4)
        [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]
    )
    wanted = linear_to_srgb(((pixels / 255.0) ** 2.2 @ to_srgb.T).astype(np.float32)) * 255.0
    assert np.abs(texture.pixels[..., :3] - wanted).max() < 2.5
    assert texture.notes == ("colours converted from ICC profile 'Display P3' to sRGB",)


def test_a_profile_keeps_alpha_and_fits_a_grey_picture(tmp_path: Path) -> None:
    path = saved(tmp_path, picture(alpha=90), chunks={}, icc_profile=display_p3())
    assert (read_texture(path, use="colour").pixels[..., 3] == 90).all()
    path = saved(tmp_path, PIXELS[..., 0], chunks={}, icc_profile=display_p3())
    texture = read_texture(path, use="colour")
    assert np.abs(texture.pixels[..., 0].astype(int) - PIXELS[..., 0]).max() <= 7  # power 2.2 against sRGB
    assert np.ptp(texture.pixels[..., :3].astype(int), axis=-1).max() <= 1


def test_a_damaged_profile_is_noted_and_ignored(tmp_path: Path) -> None:
    path = saved(tmp_path, PIXELS, chunks={}, icc_profile=b"no profile at all" * 20)
    texture = read_texture(path, use="colour")
    np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
    assert "ICC profile cannot be applied (" in texture.notes[0]


UPRIGHT = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, 1),
    7: np.rot90(PIXELS, 2).transpose(1, 0, 2),
    8: np.rot90(PIXELS, -1),
}
"""What is stored in a file of an orientation, so that ``PIXELS`` are seen (EXIF 2.32, 4.6.4 A)."""


@pytest.mark.parametrize("use", ["colour", "normal", "data"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_picture_is_turned_upright(tmp_path: Path, orientation: int, use: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(UPRIGHT[orientation])
    texture = read_texture(saved(tmp_path, stored, chunks={}, exif=exif), use=use)  # type: ignore[arg-type]
    np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
    turned = f"turned upright from EXIF orientation {orientation}"
    assert texture.notes == (() if orientation == 1 else (turned,))


def test_a_damaged_exif_block_is_noted_and_ignored(tmp_path: Path) -> None:
    path = saved(tmp_path, PIXELS, chunks={})
    data = path.read_bytes()
    body = b"eXIf" + b"neither II nor MM"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])
    texture = read_texture(path, use="colour")
    np.testing.assert_array_equal(texture.pixels[..., :3], PIXELS)
    assert texture.notes == ("EXIF data cannot be parsed; the orientation is unknown",)


def test_the_report_of_a_conversion_lists_applied_metadata(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    saved(tmp_path / "in", picture(), chunks={b"gAMA": gama(1.0)}).rename(tmp_path / "in/wall.png")
    saved(tmp_path / "in", normal(), chunks={b"gAMA": gama(1.0)}).rename(tmp_path / "in/wall_n.png")
    networks = FakeNetworks()
    report = convert_tree(
        lambda: networks,
        source=tmp_path / "in",
        output=tmp_path / "out",
        settings=Settings(num_workers=1),
    )
    assert "diffuse: colours converted from gAMA 1 to sRGB" in report.converted[0].notes
    assert not [note for note in report.converted[0].notes if note.startswith("normal: ")]
    wanted = linear_to_srgb(picture()[..., :3].astype(np.float32).transpose(2, 0, 1) / 255.0)
    assert np.abs(networks.seen[0].diffuse.numpy() - wanted).max() < 0.003


def test_cicp_is_read_from_a_stream_as_from_a_file(tmp_path: Path) -> None:
    path = saved(tmp_path, PIXELS, chunks={b"cICP": bytes((1, 8, 0, 1))})
    stream = decode_pixels(io.BytesIO(path.read_bytes()), place="row 0", use="colour")
    assert "colours converted from cICP 1 to sRGB" in stream.notes
    assert np.array_equal(stream.pixels, decode_pixels(path, place="file", use="colour").pixels)

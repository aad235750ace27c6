"""Tests that formats are identified by content; a wrong suffix is noted and another format is an error."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pbrlib.convert.runner import convert_tree
from pbrlib.errors import DataError
from pbrlib.textures.decode import read_picture, read_size, read_texture
from pbrlib.textures.identify import FileKind, identify
from tests.convert.textures import FakeNetworks, dds, normal, picture

PIXELS = picture(12, 20)


def encoded(form: str, *, mode: str = "RGB", **settings: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, form, **settings)
    return file.getvalue()


PICTURES = {
    "DDS": dds(PIXELS),
    "PNG": encoded("PNG"),
    "JPEG": encoded("JPEG", quality=95),
    "progressive JPEG": encoded("JPEG", quality=95, progressive=True),
    "lossless WEBP": encoded("WEBP", lossless=True),
    "lossy WEBP": encoded("WEBP", quality=95),
    "WEBP with alpha": encoded("WEBP", mode="RGBA", quality=95),
    "BMP": encoded("BMP"),
    "TGA": encoded("TGA"),
    "RLE TGA": encoded("TGA", compression="tga_rle"),
    "TGA with alpha": encoded("TGA", mode="RGBA"),
    "grey TGA": encoded("TGA", mode="L"),
    "palette TGA": encoded("TGA", mode="P"),
}


@pytest.mark.parametrize("ending", [".dds", ".png"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read_by_content_despite_its_suffix(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"wall{ending}"
    path.write_bytes(PICTURES[name])
    (kind,) = (kind for kind in FileKind if kind in name)
    assert identify(path) is kind
    assert read_size(path) == (12, 20)
    texture = read_texture(path, use="colour")
    wanted = np.repeat(PIXELS[..., :3].mean(-1, keepdims=True), 3, -1) if "grey" in name else PIXELS[..., :3]
    assert np.abs(texture.pixels[..., :3].astype(int) - wanted).mean() < 8
    honest = ending == f".{kind.lower()}"
    assert texture.notes == (() if honest else (f"has {kind} content despite the suffix {path.suffix!r}",))


def test_a_matching_suffix_has_no_note(tmp_path: Path) -> None:
    for ending, name in ((".tga", "TGA"), (".jpg", "JPEG"), (".JPEG", "JPEG"), (".bmp", "BMP")):
        path = tmp_path / f"wall{ending}"
        path.write_bytes(PICTURES[name])
        assert read_texture(path, use="colour").notes == ()


@pytest.mark.parametrize("name", [name for name in PICTURES if name != "DDS"])
def test_a_truncated_picture_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "wall.dds"
    for num_bytes in (9, 17, 25, len(PICTURES[name]) // 2):
        path.write_bytes(PICTURES[name][:num_bytes])
        with pytest.raises(DataError, match=r"wall\.dds: "):
            read_picture(path)


def test_a_picture_without_pixels_is_an_error_before_memory_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    size = struct.pack("<2H", 9000, 9000)
    path.write_bytes(PICTURES["TGA"][:12] + size + PICTURES["TGA"][16:])
    with pytest.raises(DataError, match="which cannot hold 9000 x 9000 pixels"):
        read_picture(path)
    path.write_bytes(PICTURES["TGA"][:12] + struct.pack("<2H", 60_000, 9) + PICTURES["TGA"][16:])
    with pytest.raises(DataError, match=r"got width 60000; expected 1\.\.16384"):
        read_size(path)


OTHERS = {
    "a PNG whose line ends were changed by a text transfer": PICTURES["PNG"].replace(b"\r\n", b"\n"),
    "a GIF picture": encoded("GIF", mode="P"),
    "a TIFF picture": encoded("TIFF"),
    "an OpenEXR picture": b"v/1\x01\x02\0\0\0channels",
    "a Photoshop document": b"8BPS\0\1" + bytes(60),
    "a KTX texture": b"\xabKTX 11\xbb\r\n\x1a\n",
    "an archive of the game (BSA)": b"BSA\0\x69\0\0\0" + bytes(60),
    "an archive of the game (BA2)": b"BTDX\1\0\0\0DX10",
    "a ZIP archive": b"PK\x03\x04" + bytes(60),
    "a mesh (NIF)": b"Gamebryo File Format, Version 20.2.0.7\n",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:",
    "a web page or XML": b"<!DOCTYPE html><html>",
    "an empty file": b"",
    "zeros": bytes(4096),
    "a file that starts with b'hello wo'": b"hello world, hello world, hello world",
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_file_of_another_format_is_an_error_with_advice(tmp_path: Path, what: str) -> None:
    path = tmp_path / "wall.dds"
    path.write_bytes(OTHERS[what])
    for read in (read_size, read_picture):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: got {what}; expected a")
        assert str(caught.value).endswith(".")


def test_a_cmyk_picture_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    path.write_bytes(encoded("JPEG", mode="CMYK"))
    with pytest.raises(DataError, match="got colour mode CMYK; expected grey or RGB"):
        read_picture(path)


def test_pictures_with_wrong_suffixes_are_converted_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/wall.dds").write_bytes(PICTURES["PNG"])
    (tmp_path / "in/wall_n.png").write_bytes(dds(normal()))
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out")
    assert [item.name for item in report.converted] == ["wall"]
    notes = report.converted[0].notes
    assert "diffuse: has PNG content despite the suffix '.dds'" in notes
    assert "normal: has DDS content despite the suffix '.png'" in notes

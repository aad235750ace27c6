from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image

from pbrlib.errors import DataError
from pbrlib.textures.decode import read_picture


def png(*, width: int, height: int, data: bytes, depth: int = 8, colour: int = 6) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_short_png_of_a_huge_size_is_an_error_before_memory_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(width=9000, height=9000, data=zlib.compress(bytes(1000))))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"huge\.png: got \d+ bytes, which cannot hold 9000 x 9000 pixels"):
        read_picture(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_png_of_too_many_pixels_is_an_error_and_not_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    data = zlib.compressobj(9)
    rows = b"".join(data.compress(bytes(1 + 2000)) for _ in range(16_000)) + data.flush()
    path.write_bytes(png(width=16_000, height=16_000, data=rows, depth=1, colour=0))
    with pytest.raises(DataError, match="Reduce it to at most 8192 px a side"):
        read_picture(path)


def test_a_picture_of_one_colour_is_not_too_short(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (2048, 1024)).save(file, "PNG", compress_level=9)
    path = tmp_path / "even.png"
    path.write_bytes(file.getvalue())
    assert read_picture(path).shape == (1024, 2048, 4)


@pytest.mark.parametrize("num_bytes", [0, 8, 24, 25, 26, 33, 43])
def test_a_png_cut_off_anywhere_is_a_data_error(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(width=4, height=4, data=zlib.compress(bytes(4 * 17)))[:num_bytes])
    with pytest.raises(DataError, match=r"cut\.png"):
        read_picture(path)

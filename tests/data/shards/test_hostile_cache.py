from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.shards.tilecache import TileCache
from pbrlib.data.shards.tilefile import TileKey

KEY = TileKey("0" * 64, "relief", 7)
TILE = np.arange(2 * 3 * 5, dtype=np.uint16).reshape(2, 3, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def kept(folder: Path) -> tuple[TileCache, Path]:
    """Return a cache with the tile, and the file of the tile."""
    cache = TileCache(folder, max_bytes=1 << 20, keep_free=0)
    cache.decode_once(KEY, lambda: TILE, shape=(3, 5, 2), dtype="uint16")
    (file,) = folder.glob("*/*/tiles/*/7")
    return cache, file


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


@given(st.binary(max_size=80), st.integers(0, TILE.nbytes + 3))
def test_a_changed_cache_file_is_not_read_as_a_tile(folder: Path, content: bytes, position: int) -> None:
    cache, file = kept(folder)
    whole = file.read_bytes()
    for changed in (content, flipped(whole, position), whole[:position], whole + content[:1] + b"x"):
        file.write_bytes(changed)
        assert cache.read(KEY, shape=(3, 5, 2), dtype="uint16") is None
    file.write_bytes(whole)
    read = cache.read(KEY, shape=(3, 5, 2), dtype="uint16")
    assert read is not None
    assert np.array_equal(read, TILE)


def test_a_too_long_cache_file_is_not_read_completely(folder: Path) -> None:
    cache, file = kept(folder)
    with file.open("r+b") as sparse:
        sparse.truncate(1 << 40)
    assert cache.read(KEY, shape=(3, 5, 2), dtype="uint16") is None

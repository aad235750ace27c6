from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.shards.codec import TILE, decode_part, decode_tile, encode_tile
from pbrlib.errors import DataError
from pbrlib.maps import MAPS, Stored
from tests.data.shards.materials import random_map

sides = st.integers(1, 70)


def smooth_tile(dtype: str) -> Stored:
    y, x = np.mgrid[:TILE, :TILE]
    plane = (np.sin(x / 40) * np.cos(y / 25) * 0.4 + 0.5) * np.iinfo(dtype).max
    return plane.astype(dtype)[..., None]


@given(sides, sides, st.integers(1, 3), st.sampled_from(["uint8", "uint16"]), st.integers(0, 2**32))
def test_decoded_tiles_equal_the_encoded_ones(
    height: int, width: int, channels: int, dtype: str, seed: int
) -> None:
    shape = (height, width, channels)
    tile = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    decoded = decode_tile(encode_tile(tile), shape=shape, dtype=dtype)
    assert decoded.dtype == tile.dtype
    np.testing.assert_array_equal(decoded, tile.transpose(2, 0, 1))


@pytest.mark.parametrize("name", MAPS)
def test_a_full_tile_of_every_map_is_lossless(name: str) -> None:
    tile = random_map(name, (TILE, TILE), np.random.default_rng(0))
    decoded = decode_tile(memoryview(encode_tile(tile)), shape=tile.shape, dtype=MAPS[name].dtype)
    np.testing.assert_array_equal(decoded, tile.transpose(2, 0, 1))


@given(sides, sides, st.sampled_from(["uint8", "uint16"]), st.data())
def test_a_decoded_part_equals_the_part_of_the_tile(
    height: int, width: int, dtype: str, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    tile = np.random.default_rng(0).integers(0, 256, (height, width, 2)).astype(dtype)
    frame = np.zeros((2, height + 3, width + 5), dtype)
    out = frame[:, 1 : 1 + bottom - top, 2 : 2 + right - left]  # a part of a crop is not contiguous
    decode_part(encode_tile(tile), out, shape=tile.shape, rows=(top, bottom), columns=(left, right))
    np.testing.assert_array_equal(out, tile[top:bottom, left:right].transpose(2, 0, 1))
    assert frame.astype(int).sum() == out.astype(int).sum(), "wrote outside its part"


@pytest.mark.parametrize(("dtype", "share"), [("uint8", 0.2), ("uint16", 0.55)])
def test_smooth_maps_are_compressed(dtype: str, share: float) -> None:
    """The lower bytes of 16-bit slopes are nearly noise, so that half of the bytes remain."""
    tile = smooth_tile(dtype)
    assert len(encode_tile(tile)) < share * tile.nbytes


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b"", lambda b: b"\0" * len(b), lambda b: b[40:]]
)
def test_a_damaged_blob_is_a_data_error(damage) -> None:
    tile = smooth_tile("uint8")
    with pytest.raises(DataError, match="damaged tile"):
        decode_tile(damage(encode_tile(tile)), shape=tile.shape, dtype="uint8")


@pytest.mark.parametrize("shape", [(128, TILE, 1), (TILE, TILE, 3)])
def test_a_blob_of_another_size_is_a_data_error(shape: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="damaged tile"):
        decode_tile(encode_tile(smooth_tile("uint8")), shape=shape, dtype="uint8")


def test_threads_decode_at_the_same_time() -> None:
    rng = np.random.default_rng(0)
    tiles = [random_map(name, (TILE, TILE), rng) for name in ("albedo", "height", "ao", "relief")] * 2
    blobs = [encode_tile(tile) for tile in tiles]

    def right(number: int) -> bool:
        tile, blob = tiles[number % 8], blobs[number % 8]
        decoded = decode_tile(blob, shape=tile.shape, dtype=str(tile.dtype))
        return np.array_equal(decoded, tile.transpose(2, 0, 1)) and encode_tile(tile) == blob

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(160)))

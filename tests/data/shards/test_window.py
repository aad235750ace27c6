from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pbrlib.data.shards.codec import TILE, encode_tile
from pbrlib.data.shards.window import Window, assemble, touched_tiles
from pbrlib.errors import DataError
from pbrlib.maps import Stored
from tests.data.shards.materials import index_row, random_map

side = st.one_of(st.integers(1, 600), st.sampled_from([1, TILE - 1, TILE, TILE + 1, 2 * TILE]))
start = st.integers(-1000, 1000)


def wrapped(pixels: Stored, window: Window) -> Stored:
    """Return the expected crop by indexing the whole map modulo its size."""
    rows = np.take(pixels, range(window.y, window.y + window.height), axis=0, mode="wrap")
    return np.take(rows, range(window.x, window.x + window.width), axis=1, mode="wrap")


def tiles_of(pixels: Stored, numbers: list[int]) -> list[bytes]:
    across = -(-pixels.shape[1] // TILE)
    corners = [(number // across * TILE, number % across * TILE) for number in numbers]
    return [encode_tile(pixels[y : y + TILE, x : x + TILE]) for y, x in corners]


def crop(name: str, pixels: Stored, window: Window, *, tileable: bool) -> Stored:
    height, width = pixels.shape[:2]
    numbers = touched_tiles(window, height=height, width=width, tileable=tileable)
    row = index_row(size=(height, width), tileable=tileable, maps=(name,))
    return assemble({name: tiles_of(pixels, numbers)}, window, row=row)[name]


@settings(max_examples=60)
@given(side, side, start, start, side, side, st.sampled_from(["albedo", "height"]))
def test_a_crop_of_a_tileable_texture_wraps(
    height: int, width: int, y: int, x: int, tall: int, wide: int, name: str
) -> None:
    pixels = random_map(name, (height, width), np.random.default_rng(0))
    window = Window(y, x, tall, wide)
    found = crop(name, pixels, window, tileable=True)
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, wrapped(pixels, window))


@settings(max_examples=40)
@given(side, side, st.data())
def test_a_crop_inside_of_a_texture_equals_indexing(height: int, width: int, data: st.DataObject) -> None:
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    tall, wide = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
    pixels = random_map("relief", (height, width), np.random.default_rng(0))
    found = crop("relief", pixels, Window(y, x, tall, wide), tileable=False)
    np.testing.assert_array_equal(found, pixels[y : y + tall, x : x + wide])


@given(side, side, start, start, side, side)
def test_touched_tiles_are_exactly_those_under_the_window(
    height: int, width: int, y: int, x: int, tall: int, wide: int
) -> None:
    across = -(-width // TILE)
    rows = {(y + i) % height // TILE for i in range(tall)}
    columns = {(x + i) % width // TILE for i in range(wide)}
    expected = sorted(row * across + column for row in rows for column in columns)
    assert touched_tiles(Window(y, x, tall, wide), height=height, width=width, tileable=True) == expected


@given(side, side, start, start, side, side)
def test_a_window_across_the_border_of_a_texture_that_is_not_tileable_is_a_value_error(
    height: int, width: int, y: int, x: int, tall: int, wide: int
) -> None:
    assume(min(y, x) < 0 or y + tall > height or x + wide > width)
    with pytest.raises(ValueError, match="crosses the border of a texture"):
        touched_tiles(Window(y, x, tall, wide), height=height, width=width, tileable=False)


def test_an_empty_window_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="got an empty window"):
        touched_tiles(Window(0, 0, 0, 5), height=9, width=9, tileable=True)


def test_a_crop_is_planar_in_memory() -> None:
    found = crop("albedo", np.zeros((300, 300, 3), np.uint8), Window(10, 20, 256, 256), tileable=False)
    assert found.transpose(2, 0, 1).flags.c_contiguous


def test_a_damaged_tile_is_an_error_with_material_and_map() -> None:
    row = index_row(size=(100, 100), maps=("ao",))
    with pytest.raises(DataError, match="m: ao: damaged tile"):
        assemble({"ao": [b"not zstd"]}, Window(0, 0, 10, 10), row=row)

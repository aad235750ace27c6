from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pbrlib.data.draw import Window, assemble, crops_from_fetched, fetch, touched_tiles
from pbrlib.data.plan import PARTNERS
from pbrlib.data.shards.codec import TILE, encode_tile
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import DataError
from pbrlib.maps import Stored
from tests.damage import flip

from .shards.materials import index_row, make_set, material, random_map

side = st.one_of(st.integers(1, 600), st.sampled_from([1, TILE - 1, TILE, TILE + 1, 2 * TILE]))
start = st.integers(-1000, 1000)


def wrapped(pixels: Stored, window: Window) -> Stored:
    """The truth: plain indexing of the whole map, modulo its size."""
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
def test_a_crop_of_a_texture_that_tiles_wraps(
    height: int, width: int, y: int, x: int, tall: int, wide: int, name: str
) -> None:
    pixels = random_map(name, (height, width), np.random.default_rng(0))
    window = Window(y, x, tall, wide)
    found = crop(name, pixels, window, tileable=True)
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, wrapped(pixels, window))


@settings(max_examples=40)
@given(side, side, st.data())
def test_a_crop_inside_any_texture_is_plain_indexing(height: int, width: int, data: st.DataObject) -> None:
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
def test_a_window_outside_a_texture_that_does_not_tile_is_the_planners_mistake(
    height: int, width: int, y: int, x: int, tall: int, wide: int
) -> None:
    assume(min(y, x) < 0 or y + tall > height or x + wide > width)
    with pytest.raises(ValueError, match="leaves a texture"):
        touched_tiles(Window(y, x, tall, wide), height=height, width=width, tileable=False)


def test_an_empty_window_is_the_planners_mistake() -> None:
    with pytest.raises(ValueError, match="is empty"):
        touched_tiles(Window(0, 0, 0, 5), height=9, width=9, tileable=True)


def test_a_crop_is_planar_in_memory() -> None:
    found = crop("albedo", np.zeros((300, 300, 3), np.uint8), Window(10, 20, 256, 256), tileable=False)
    assert found.transpose(2, 0, 1).flags.c_contiguous


def test_a_damaged_tile_names_material_and_map() -> None:
    row = index_row(size=(100, 100), maps=("ao",))
    with pytest.raises(DataError, match="m: ao: damaged tile"):
        assemble({"ao": [b"not zstd"]}, Window(0, 0, 10, 10), row=row)


MATERIALS = [
    material(0, size=(300, 520)),
    material(1, size=(256, 256), maps=("normal", "albedo")),
    material(2, size=(700, 90), tileable=False),
    material(3, size=(300, 300)),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return make_set(tmp_path_factory.mktemp("set"), MATERIALS[:2], MATERIALS[2:3], MATERIALS[3:])


def draws(
    *records: tuple[int, int, int, int], partners: list[list[tuple[int, int, int]]] | None = None
) -> pa.Table:
    columns = zip(*records, strict=True)
    table = pa.table(dict(zip(("sample", "y", "x", "crop"), columns, strict=True)))
    parts = [
        [{"sample": sample, "y": y, "x": x, "seed": 0} for sample, y, x in of_draw]
        for of_draw in partners or [[] for _ in records]
    ]
    table = table.append_column("partners", pa.array(parts, PARTNERS))
    return table.append_column("seed", pa.array(range(len(records)), pa.uint64()))


def test_fetched_draws_crop_to_the_pixels_of_their_windows(shards: ShardSet) -> None:
    maps = ("height", "albedo")
    table = draws(
        (3, 5, 6, 64), (0, -20, 500, 300), (1, 9, 9, 400), (2, 600, 0, 90), (0, 0, 0, 1), (3, 5, 6, 64)
    )
    fetched = fetch(table, shards, maps)
    assert fetched.select(table.column_names).equals(table)
    for draw in fetched.to_pylist():
        one = MATERIALS[draw["sample"]]
        (found,) = crops_from_fetched(draw, shards, maps)
        assert set(found) == set(maps) & set(one.maps)
        for name, pixels in found.items():
            window = Window(draw["y"], draw["x"], draw["crop"], draw["crop"])
            np.testing.assert_array_equal(pixels, wrapped(one.maps[name], window))


def test_the_parts_of_a_draw_are_fetched_together_and_split_again(shards: ShardSet) -> None:
    maps = ("height", "albedo")
    partners = [[(1, 9, 9), (3, 5, 6), (0, 250, 500)], [], [(1, 0, 0)], [(2, 600, 0)]]
    windows = [(0, 200, 250, 80), (3, 7, 8, 80), (1, 3, 3, 80), (3, 250, 250, 80)]
    fetched = fetch(draws(*windows, partners=partners), shards, maps)
    for draw, own, others in zip(fetched.to_pylist(), windows, partners, strict=True):
        crops = crops_from_fetched(draw, shards, maps)
        assert len(crops) == 1 + len(others)
        for found, (sample, y, x) in zip(crops, [own[:3], *others], strict=True):
            assert set(found) == set(maps) & set(MATERIALS[sample].maps)
            for name, pixels in found.items():
                np.testing.assert_array_equal(
                    pixels, wrapped(MATERIALS[sample].maps[name], Window(y, x, 80, 80))
                )


def test_fetch_holds_the_touched_tiles_and_nothing_for_a_missing_map(shards: ShardSet) -> None:
    fetched = fetch(draws((0, 0, 250, 20), (1, 0, 0, 8)), shards, ["height"])
    assert fetched.schema.field("tiles.height").type == pa.list_(pa.binary())
    first, second = fetched["tiles.height"].to_pylist()
    assert first == tiles_of(MATERIALS[0].maps["height"], [0, 1])
    assert second == []


def test_draws_of_one_shard_share_one_read(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    really_read = shards._files.read
    monkeypatch.setattr(shards._files, "read", lambda *given: reads.append(given) or really_read(*given))
    fetch(draws((0, 0, 0, 8), (1, 0, 0, 8), (2, 0, 0, 8), (0, 200, 200, 90)), shards, ["normal"])
    assert len(reads) == 2


def test_fetch_from_a_damaged_shard_names_material_and_map(tmp_path: Path) -> None:
    damaged = make_set(tmp_path, [MATERIALS[0], MATERIALS[3]])
    path = tmp_path / damaged.manifest.shards[0].file
    blob = tiles_of(MATERIALS[3].maps["normal"], [0])[0]
    flip(path, path.read_bytes().index(blob) + 1000)
    with pytest.raises(DataError, match=rf"{path.name}: m3: normal: damaged"):
        fetch(draws((0, 0, 0, 8), (3 - 2, 0, 0, 8)), damaged, ["albedo", "normal"])

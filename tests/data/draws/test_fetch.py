from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pbrlib.data.draws.fetch import crops_from_fetched, fetch
from pbrlib.data.draws.plan import PARTNERS
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.window import Window
from pbrlib.errors import DataError
from tests.damage import flip
from tests.data.shards.materials import make_set, material
from tests.data.shards.test_window import tiles_of, wrapped

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


def test_parts_of_a_draw_are_fetched_together(shards: ShardSet) -> None:
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


def test_fetch_returns_the_touched_tiles_and_none_for_a_missing_map(shards: ShardSet) -> None:
    fetched = fetch(draws((0, 0, 250, 20), (1, 0, 0, 8)), shards, ["height"])
    assert fetched.schema.field("tiles.height").type == pa.list_(pa.binary())
    first, second = fetched["tiles.height"].to_pylist()
    assert first == tiles_of(MATERIALS[0].maps["height"], [0, 1])
    assert second == []


def test_draws_in_one_shard_share_a_read(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
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

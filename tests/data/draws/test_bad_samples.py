"""Tests of draws of damaged tiles: an error by default, or replacement by an intact draw."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pytest

from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.fetch import fetch
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.readspec import OnBadSample
from pbrlib.errors import DamageError, DataError
from tests.damage import flip_tile
from tests.data.shards.materials import make_set, material

SIZE, CROP = 96, 32
WINDOW = {"crop": CROP, "layout": 0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six materials, three in each of two shards."""
    materials = [material(number, size=(SIZE, SIZE)) for number in range(6)]
    make_set(tmp_path / "set", materials[:3], materials[3:])
    return tmp_path / "set"


def table(*samples: int, partners: dict[int, int] | None = None) -> pa.Table:
    """Return draws of these materials; ``partners`` makes a draw a mosaic of two halves."""
    draws: list[dict[str, Any]] = []
    for place, sample in enumerate(samples):
        own = {"sample": sample, "y": 8 * place, "x": place, "seed": 100 + place}
        other = (partners or {}).get(place)
        parts = [] if other is None else [{"sample": other, "y": 3, "x": 5, "seed": 900 + place}]
        draws.append({**own, **WINDOW, "layout": 0 if other is None else 1, "partners": parts})
    partner = pa.struct([("sample", pa.int32()), ("y", pa.int32()), ("x", pa.int32()), ("seed", pa.int64())])
    fields = [("sample", pa.int32()), ("y", pa.int32()), ("x", pa.int32()), ("seed", pa.int64())]
    fields += [("crop", pa.int32()), ("layout", pa.int8()), ("partners", pa.list_(partner))]
    return pa.Table.from_pylist(draws, schema=pa.schema(fields))


def batch_of(root: Path, draws: pa.Table, on_bad_sample: OnBadSample = "skip") -> RawBatch:
    shards = ShardSet.open(root, on_bad_sample=on_bad_sample)
    return collate(fetch(draws, shards, ["albedo"]), shards, maps=["albedo"])


def damage(root: Path, number: int) -> None:
    """Flip a bit of the albedo of a material."""
    flip_tile(root, ShardSet.open(root).rows[number], "albedo")


def same(batch: RawBatch, *, place: int, of: RawBatch, at: int) -> bool:
    return bool((batch.maps["albedo"][place] == of.maps["albedo"][at]).all())


def test_by_default_a_damaged_tile_is_an_error_with_the_material(root: Path) -> None:
    damage(root, 5)
    with pytest.raises(DamageError, match="m5") as caught:
        batch_of(root, table(0, 5), "fail")
    assert caught.value.material == "m5"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.material) == (str(caught.value), "m5"), "a task can raise it in another process"


def test_a_damaged_draw_is_replaced_by_the_nearest_intact_one(root: Path) -> None:
    whole = batch_of(root, table(0, 1, 5, 3, 2))
    assert whole.replaced == ()
    damage(root, 5)
    batch = batch_of(root, table(0, 1, 5, 3, 2))
    assert batch.ids == ("m0", "m1", "m1", "m3", "m2"), "of two equally near draws the earlier one"
    assert batch.seeds.tolist() == [100, 101, 101, 103, 104]
    assert batch.maps["albedo"].shape == whole.maps["albedo"].shape
    assert all(same(batch, place=place, of=whole, at=at) for place, at in enumerate([0, 1, 1, 3, 4]))
    ((name, why),) = batch.replaced
    assert name == "m5"
    assert "m5: albedo: damaged (" in why
    again = batch_of(root, table(0, 1, 5, 3, 2))
    assert again.ids == batch.ids
    assert all(same(again, place=place, of=batch, at=place) for place in range(5))


def test_every_draw_of_a_missing_or_truncated_shard_is_replaced(root: Path) -> None:
    path = root / ShardSet.open(root).manifest.shards[1].file
    cut = path.read_bytes()[:-50]
    for harm in (lambda: path.write_bytes(cut), path.unlink):
        harm()
        with pytest.raises(DataError, match=path.name):
            ShardSet.open(root)
        batch = batch_of(root, table(3, 0, 4, 1, 5))
        assert batch.ids == ("m0", "m0", "m0", "m1", "m1")
        assert sorted(name for name, _ in batch.replaced) == ["m3", "m4", "m5"]


def test_a_batch_without_an_intact_draw_is_an_error(root: Path) -> None:
    damage(root, 5)
    with pytest.raises(DamageError, match=r"all 2 draws of a batch are damaged\. .*m5"):
        batch_of(root, table(5, 5))


def test_a_mosaic_with_a_damaged_partner_is_replaced(root: Path) -> None:
    damage(root, 5)
    batch = batch_of(root, table(0, 1, 2, partners={0: 5, 2: 4}))
    assert batch.ids == ("m1", "m1", "m2", "m4")
    assert batch.layouts is not None
    assert [layout.parts for layout in batch.layouts] == [1, 1, 2]
    assert [name for name, _ in batch.replaced] == ["m5"], "the other part is intact"


def blobs(shards: ShardSet, draws: pa.Table, damaged: int, blob: bytes) -> pa.Table:
    """Return fetched draws with replaced bytes for the tile of one draw."""
    fetched = fetch(draws, shards, ["albedo"])
    tiles = fetched["tiles.albedo"].to_pylist()
    tiles[damaged] = [blob]
    place = fetched.column_names.index("tiles.albedo")
    return fetched.set_column(place, "tiles.albedo", pa.array(tiles, pa.list_(pa.binary())))


@pytest.mark.parametrize(
    "blob",
    [b"", b"nonsense", imagecodecs.zstd_encode(b"too short"), imagecodecs.zstd_encode(bytes(10**6))],
    ids=["empty", "no frame", "short", "long"],
)
def test_a_tile_with_a_wrong_size_is_a_bad_sample(root: Path, blob: bytes) -> None:
    shards = ShardSet.open(root, on_bad_sample="skip")
    batch = collate(blobs(shards, table(0, 1, 2), 1, blob), shards, maps=["albedo"])
    assert batch.ids == ("m0", "m0", "m2")
    assert [name for name, _ in batch.replaced] == ["m1"]
    strict = ShardSet.open(root)
    with pytest.raises(DamageError, match="m1: albedo: damaged tile"):
        collate(blobs(strict, table(0, 1, 2), 1, blob), strict, maps=["albedo"])


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file of a network share that does not respond."""

    def refuse(*given: object, **named: object) -> None:
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr("pbrlib.data.shards.files.pq.ParquetFile", refuse)
    yield


def test_a_transient_error_is_not_skipped(root: Path, out_of_reach: None) -> None:
    with pytest.raises(DataError, match="Connection timed out") as caught:
        batch_of(root, table(0, 1))
    assert not isinstance(caught.value, DamageError)


def test_read_whole_raises_an_error_for_damage(root: Path) -> None:
    damage(root, 5)
    shards = ShardSet.open(root, on_bad_sample="skip")
    with pytest.raises(DamageError, match="m5"):
        shards.read_whole(shards.rows[5], ["albedo"])
    assert np.any(shards.read_whole(shards.rows[4], ["albedo"])["albedo"])

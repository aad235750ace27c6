"""Tests that pixels of the cache equal those of the shards. All caches have ``keep_free`` 0."""

from __future__ import annotations

import errno
import hashlib
import logging
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pbrlib.data.draws.fetch import TILES_PREFIX, crops_from_fetched, fetch
from pbrlib.data.shards import dataset
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.readspec import TileCacheSpec
from pbrlib.data.shards.tilecache import MIN_IDLE_S, TileCache
from pbrlib.data.shards.window import Window
from tests.damage import flip
from tests.data.draws.test_fetch import draws
from tests.data.shards.materials import add_version, make_set, material

MAPS = ("albedo", "normal", "height")
MATERIALS = [
    material(0, size=(300, 520)),
    material(1, size=(256, 256), maps=("normal", "albedo")),
    material(2, size=(300, 300)),
]
DRAWS = draws(
    (0, 200, 250, 80), (1, 9, 9, 200), (2, 5, 6, 64), (0, -20, 500, 90), (2, 250, 250, 128), (0, 200, 250, 80)
)
NUM_TILES = 6 * 3 + 1 * 2 + 4 * 3
"""The number of tiles of the three materials in all maps; the draws touch every tile."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_set(tmp_path_factory.mktemp("set"), MATERIALS[:2], MATERIALS[2:]).location)


def cached(folder: Path, place: Path, *, max_bytes: int = 2**30, min_idle_s: float = MIN_IDLE_S) -> ShardSet:
    return ShardSet.open(
        folder, cache=TileCache(place, max_bytes=max_bytes, min_idle_s=min_idle_s, keep_free=0)
    )


def delivered(shards: ShardSet, table: pa.Table = DRAWS) -> str:
    """Return a hash of every crop of the draws, fetched and decoded as in training."""
    return digest(crops_of(fetch(table, shards, MAPS), shards))


def crops_of(fetched: pa.Table, shards: ShardSet) -> list[dict[str, Any]]:
    return [crop for draw in fetched.to_pylist() for crop in crops_from_fetched(draw, shards, MAPS)]


def digest(crops: Sequence[dict[str, Any]]) -> str:
    found = hashlib.sha256()
    for crop in crops:
        for name, pixels in sorted(crop.items()):
            found.update(f"{name}{pixels.shape}".encode() + pixels.tobytes())
    return found.hexdigest()


def num_sent(fetched: pa.Table) -> int:
    """Return the number of fetched compressed tiles."""
    columns = [fetched[TILES_PREFIX + name].combine_chunks().flatten() for name in MAPS]
    return sum(len(column) - column.null_count for column in columns)


def tile_files(place: Path) -> list[Path]:
    return [file for file in place.glob("pbr-tiles-*/*/tiles/*/*") if file.name != "used"]


def size_on_disk(place: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in tile_files(place))


@pytest.fixture
def num_decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return the number of tiles that caches have decoded since the last call."""
    calls: list[object] = []
    really = dataset.decode_tile
    monkeypatch.setattr(dataset, "decode_tile", lambda *a, **k: calls.append(a) or really(*a, **k))

    def asked() -> int:
        count = len(calls)
        calls.clear()
        return count

    return asked


def test_crops_do_not_depend_on_the_cache(
    folder: Path, tmp_path: Path, num_decoded: Callable[[], int]
) -> None:
    wanted = delivered(ShardSet.open(folder))
    shards = cached(folder, tmp_path)
    assert delivered(shards) == wanted
    assert num_decoded() == NUM_TILES, "each tile is decoded once"
    assert delivered(shards) == wanted
    assert num_decoded() == 0
    for file in tile_files(tmp_path)[::3]:
        file.unlink()
    assert delivered(cached(folder, tmp_path)) == wanted
    assert num_decoded() == len(range(0, NUM_TILES, 3))


def test_whole_maps_come_through_the_cache_too(
    folder: Path, tmp_path: Path, num_decoded: Callable[[], int]
) -> None:
    shards = cached(folder, tmp_path)
    for _ in range(2):
        found = shards.read_whole(shards.rows[0], MAPS)
        assert all(np.array_equal(found[name], MATERIALS[0].maps[name]) for name in MAPS)
    assert num_decoded() == 18
    window = Window(10, 20, 100, 100)
    crop = shards.read_crop(shards.rows[0], window, ["height"])["height"]
    np.testing.assert_array_equal(crop, MATERIALS[0].maps["height"][10:110, 20:120])
    assert num_decoded() == 0


def test_cached_tiles_are_not_read_from_shards(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = cached(folder, tmp_path)
    cold = fetch(DRAWS, shards, MAPS)
    assert num_sent(cold) == num_sent(fetch(DRAWS, ShardSet.open(folder), MAPS)) > 0
    crops_of(cold, shards)
    warm = pickle.loads(pickle.dumps(shards))  # as the process of a fetch task gets it
    monkeypatch.setattr(warm._files, "read", lambda *given: pytest.fail(f"read {given}"))
    fetched = fetch(DRAWS, warm, MAPS)
    assert num_sent(fetched) == 0
    assert fetched.schema == cold.schema
    assert fetched.num_rows == DRAWS.num_rows
    assert delivered(warm) == delivered(ShardSet.open(folder))


def test_only_missing_maps_are_read(folder: Path, tmp_path: Path) -> None:
    shards = cached(folder, tmp_path)
    crops_from_fetched(fetch(DRAWS.slice(0, 1), shards, ["normal"]).to_pylist()[0], shards, ["normal"])
    fetched = fetch(DRAWS.slice(0, 1), shards, ["normal", "height"]).to_pylist()[0]
    assert set(fetched["tiles.normal"]) == {None}
    assert None not in fetched["tiles.height"]


def test_a_tile_that_was_evicted_after_the_fetch_is_read_from_its_shard(folder: Path, tmp_path: Path) -> None:
    shards = cached(folder, tmp_path)
    wanted = delivered(shards)
    fetched = fetch(DRAWS, shards, MAPS)
    assert num_sent(fetched) == 0
    shutil.rmtree(tmp_path / f"pbr-tiles-{os.getuid()}")
    assert digest(crops_of(fetched, shards)) == wanted
    assert delivered(shards) == wanted
    assert len(tile_files(tmp_path)) == NUM_TILES, "a removed cache is created again"


def damage_cut(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def damage_emptied(file: Path, other: Path) -> None:
    file.write_bytes(b"")


def damage_grown(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes() + b"0")


def damage_flipped(file: Path, other: Path) -> None:
    flip(file)


def damage_of_another(file: Path, other: Path) -> None:
    shutil.copy(other, file)


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_emptied, damage_grown, damage_flipped, damage_of_another]
)
def test_a_damaged_cache_file_is_detected_and_decoded_again(
    folder: Path, tmp_path: Path, num_decoded: Callable[[], int], damage: Callable[[Path, Path], None]
) -> None:
    shards = cached(folder, tmp_path)
    wanted = delivered(shards)
    files = sorted(file for file in tile_files(tmp_path) if file.parent.name.endswith(".albedo"))
    same_size = [file for file in files if file.stat().st_size == files[0].stat().st_size]
    damage(files[0], same_size[1])
    num_decoded()
    assert delivered(shards) == wanted
    assert num_decoded() == 1
    assert delivered(shards) == wanted
    assert num_decoded() == 0, "the damaged file has been replaced"


def test_a_changed_set_does_not_read_old_tiles(tmp_path: Path) -> None:
    place, folder = tmp_path / "cache", tmp_path / "set"
    make_set(folder, MATERIALS[:1])
    before = delivered(cached(folder, place), DRAWS.slice(0, 1))
    shutil.rmtree(folder)
    other = material(7, size=(300, 520))
    make_set(folder, [other])
    shards = cached(folder, place)
    assert delivered(shards, DRAWS.slice(0, 1)) not in (before, "")
    found = shards.read_whole(shards.rows[0], ["albedo"])["albedo"]
    np.testing.assert_array_equal(found, other.maps["albedo"])


def test_a_set_that_grows_keeps_its_tiles(tmp_path: Path, num_decoded: Callable[[], int]) -> None:
    place, folder = tmp_path / "cache", tmp_path / "set"
    first = add_version(folder, [MATERIALS[:1]])
    delivered(cached(folder, place), DRAWS.slice(0, 1))
    add_version(folder, [MATERIALS[2:]], previous=first)
    num_decoded()
    grown = cached(folder, place)
    assert grown.manifest.version == 2
    delivered(grown, DRAWS.slice(0, 1))
    assert num_decoded() == 0


def in_processes(count: int, run: Callable[..., None], *given: object) -> list[Any]:
    """Return the results of several processes that start at the same moment."""
    context = multiprocessing.get_context("spawn")
    results, start = context.Queue(), context.Barrier(count)
    processes = [context.Process(target=run, args=(results, start, *given)) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        return [results.get(timeout=120) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=10)
            process.kill()


def race(
    results: Any, start: Any, folder: Path, place: Path, max_bytes: int, min_idle_s: float, rounds: int
) -> None:
    calls = []
    really = dataset.decode_tile
    dataset.decode_tile = lambda *a, **k: calls.append(a) or really(*a, **k)  # type: ignore[assignment]
    shards = cached(folder, place, max_bytes=max_bytes, min_idle_s=min_idle_s)
    start.wait(timeout=120)
    results.put(({delivered(shards) for _ in range(rounds)}, len(calls)))


def test_concurrent_processes_decode_each_tile_once(folder: Path, tmp_path: Path) -> None:
    found = in_processes(3, race, folder, tmp_path, 2**30, MIN_IDLE_S, 3)
    wanted = delivered(ShardSet.open(folder))
    assert [pixels for pixels, _ in found] == [{wanted}] * 3
    assert sum(decoded for _, decoded in found) == NUM_TILES
    assert len(tile_files(tmp_path)) == NUM_TILES


def test_eviction_during_reads_keeps_pixels_and_limits(folder: Path, tmp_path: Path) -> None:
    bound, tile = 2**20, 200 * 2**10
    found = in_processes(2, race, folder, tmp_path, bound, 0.0, 3)
    wanted = delivered(ShardSet.open(folder))
    assert [pixels for pixels, _ in found] == [{wanted}] * 2
    assert sum(decoded for _, decoded in found) > NUM_TILES, "some tiles were evicted and decoded again"
    assert 0 < size_on_disk(tmp_path) <= bound + 2 * tile


@pytest.mark.parametrize("fault", ["no space", "half of it"])
def test_a_full_disk_is_one_warning_and_tiles_are_decoded(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    shards = cached(folder, tmp_path)
    delivered(shards, DRAWS.slice(1, 1))

    def writev(file: int, buffers: Sequence[Any]) -> int:
        if fault == "no space":
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(file, bytes(buffers[0])[:100])

    monkeypatch.setattr(os, "writev", writev)
    monkeypatch.setattr("pbrlib.data.shards.tilecache._PAUSE_S", 0.0)
    with caplog.at_level(logging.WARNING):
        assert delivered(shards) == delivered(ShardSet.open(folder))
    assert [str(tmp_path) in record.message for record in caplog.records] == [True]
    assert not list(tmp_path.glob("*/*/beside/*")), "no incomplete files remain"
    assert len(tile_files(tmp_path)) == 2, "existing tiles are still read"
    monkeypatch.undo()
    assert delivered(shards) == delivered(ShardSet.open(folder))
    assert len(tile_files(tmp_path)) == NUM_TILES, "with free space, tiles are stored again"


def test_a_cache_folder_without_permission_is_no_error(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert delivered(cached(folder, tmp_path / "file")) == delivered(ShardSet.open(folder))
    assert len(caplog.records) == 1


def test_a_cache_folder_of_other_users_is_not_read(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = delivered(cached(folder, tmp_path))
    own = tmp_path / f"pbr-tiles-{os.getuid()}"
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    shards = cached(folder, tmp_path)
    assert num_sent(fetch(DRAWS, shards, MAPS)) > 0
    assert delivered(shards) == wanted
    assert "got a folder that other users can access" in caplog.text


def test_the_folder_is_absolute_and_the_size_positive() -> None:
    with pytest.raises(ValidationError, match="expected an absolute path"):
        TileCacheSpec(folder="cache")
    with pytest.raises(ValidationError):
        TileCacheSpec(gib=0)
    with pytest.raises(ValidationError):
        TileCacheSpec(keep_free=1)
    made = TileCache.of(TileCacheSpec(gib=0.5, folder="/x", keep_free=0.2))
    assert (made.max_bytes, made.keep_free) == (2**29, 0.2)

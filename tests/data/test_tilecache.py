"""Nothing here but what says so depends on how full the disk is: the caches keep none of it free."""

from __future__ import annotations

import errno
import hashlib
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pbrlib.data.draw import TILES_PREFIX, Window, crops_from_fetched, fetch
from pbrlib.data.shards import reader
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.tilecache import REST_S, TileCache, TileCacheSpec, TileKey
from tests.damage import flip

from .shards.materials import add_version, make_set, material
from .test_draw import draws

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
"""Of the three materials, in all their maps; the draws touch each."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_set(tmp_path_factory.mktemp("set"), MATERIALS[:2], MATERIALS[2:]).location)


def cached(folder: Path, place: Path, *, max_bytes: int = 2**30, rest_s: float = REST_S) -> ShardSet:
    return ShardSet.open(folder, cache=TileCache(place, max_bytes=max_bytes, rest_s=rest_s, keep_free=0))


def delivered(shards: ShardSet, table: pa.Table = DRAWS) -> str:
    """A hash of every crop of the draws, fetched and decoded as the stream does it."""
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
    """Tiles that travel compressed."""
    columns = [fetched[TILES_PREFIX + name].combine_chunks().flatten() for name in MAPS]
    return sum(len(column) - column.null_count for column in columns)


def tile_files(place: Path) -> list[Path]:
    return [file for file in place.glob("pbr-tiles-*/*/tiles/*/*") if file.name != "used"]


def size_on_disk(place: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in tile_files(place))


@pytest.fixture
def num_decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many tiles have been decoded through caches since the last question."""
    calls: list[object] = []
    really = reader.decode_tile
    monkeypatch.setattr(reader, "decode_tile", lambda *a, **k: calls.append(a) or really(*a, **k))

    def asked() -> int:
        count = len(calls)
        calls.clear()
        return count

    return asked


def test_crops_are_the_same_without_a_cache_and_with_a_cold_a_warm_and_a_holed_one(
    folder: Path, tmp_path: Path, num_decoded: Callable[[], int]
) -> None:
    wanted = delivered(ShardSet.open(folder))
    shards = cached(folder, tmp_path)
    assert delivered(shards) == wanted
    assert num_decoded() == NUM_TILES, "each tile once, however many draws touch it"
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


def test_cached_tiles_are_neither_read_from_the_shards_nor_sent(
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


def test_only_the_maps_that_are_missing_are_read(folder: Path, tmp_path: Path) -> None:
    shards = cached(folder, tmp_path)
    crops_from_fetched(fetch(DRAWS.slice(0, 1), shards, ["normal"]).to_pylist()[0], shards, ["normal"])
    fetched = fetch(DRAWS.slice(0, 1), shards, ["normal", "height"]).to_pylist()[0]
    assert set(fetched["tiles.normal"]) == {None}
    assert None not in fetched["tiles.height"]


def test_a_tile_that_is_lost_after_it_was_not_fetched_comes_from_its_shard(
    folder: Path, tmp_path: Path
) -> None:
    shards = cached(folder, tmp_path)
    wanted = delivered(shards)
    fetched = fetch(DRAWS, shards, MAPS)
    assert num_sent(fetched) == 0
    shutil.rmtree(tmp_path / f"pbr-tiles-{os.getuid()}")
    assert digest(crops_of(fetched, shards)) == wanted
    assert delivered(shards) == wanted
    assert len(tile_files(tmp_path)) == NUM_TILES, "a cache that somebody removed is made anew"


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
def test_a_damaged_file_is_seen_and_decoded_anew(
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


def test_another_content_at_the_same_place_never_meets_tiles_of_the_old(tmp_path: Path) -> None:
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
    """What as many processes put into a queue; they begin at the same moment."""
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
    results: Any, start: Any, folder: Path, place: Path, max_bytes: int, rest_s: float, rounds: int
) -> None:
    calls = []
    really = reader.decode_tile
    reader.decode_tile = lambda *a, **k: calls.append(a) or really(*a, **k)  # type: ignore[assignment]
    shards = cached(folder, place, max_bytes=max_bytes, rest_s=rest_s)
    start.wait(timeout=120)
    results.put(({delivered(shards) for _ in range(rounds)}, len(calls)))


def test_processes_that_race_for_tiles_decode_each_once_and_read_the_same_pixels(
    folder: Path, tmp_path: Path
) -> None:
    found = in_processes(3, race, folder, tmp_path, 2**30, REST_S, 3)
    wanted = delivered(ShardSet.open(folder))
    assert [pixels for pixels, _ in found] == [{wanted}] * 3
    assert sum(decoded for _, decoded in found) == NUM_TILES
    assert len(tile_files(tmp_path)) == NUM_TILES


def test_eviction_while_others_read_keeps_pixels_and_bounds(folder: Path, tmp_path: Path) -> None:
    bound, tile = 2**20, 200 * 2**10
    found = in_processes(2, race, folder, tmp_path, bound, 0.0, 3)
    wanted = delivered(ShardSet.open(folder))
    assert [pixels for pixels, _ in found] == [{wanted}] * 2
    assert sum(decoded for _, decoded in found) > NUM_TILES, "tiles came and went"
    assert 0 < size_on_disk(tmp_path) <= bound + 2 * tile


def keys(cache: TileCache, shard: str, rows: Sequence[int]) -> list[TileKey]:
    """Tiles of 64 KiB of a shard, put into a cache, in so far as it keeps them."""
    found = [TileKey(shard, "ao", row) for row in rows]
    for key in found:
        pixels = np.full((1, 256, 256), key.row, np.uint8)
        given = cache.decode_once(key, lambda pixels=pixels: pixels, shape=(256, 256, 1), dtype="uint8")
        np.testing.assert_array_equal(given, pixels)
    return found


TEN = 10 * 17 * 4096
"""Bytes that ten tiles with their checksums take, in blocks."""


def test_what_is_in_use_stays_and_the_rest_of_a_larger_set_is_decoded_each_time(tmp_path: Path) -> None:
    cache = TileCache(tmp_path, max_bytes=TEN, keep_free=0)
    kept = keys(cache, "a", range(10))
    others = keys(cache, "b", range(5))
    assert all(map(cache.holds, kept))
    assert not any(map(cache.holds, others))
    assert cache.used_bytes == TEN


def test_a_process_that_hangs_with_a_tile_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbrlib.data.tilecache._OTHERS_S", 0.05)
    cache = TileCache(tmp_path, max_bytes=TEN, keep_free=0)
    keys(cache, "a", [0])
    key, ones = TileKey("a", "ao", 1), np.ones((1, 256, 256), np.uint8)
    with cache._alone_with(key):
        given = cache.decode_once(key, lambda: ones, shape=(256, 256, 1), dtype="uint8")
    np.testing.assert_array_equal(given, ones)


def test_processes_do_not_wait_for_each_other_where_nothing_is_kept(tmp_path: Path) -> None:
    cache = TileCache(tmp_path, max_bytes=4096, keep_free=0)
    keys(cache, "a", [0])  # finds the cache full
    key, ones = TileKey("a", "ao", 1), np.ones((1, 256, 256), np.uint8)
    with cache._alone_with(key):
        given = cache.decode_once(key, lambda: ones, shape=(256, 256, 1), dtype="uint8")
    np.testing.assert_array_equal(given, ones)


def test_what_rested_longest_makes_room_a_shard_at_a_time(tmp_path: Path) -> None:
    cache = TileCache(tmp_path, max_bytes=TEN, rest_s=600, keep_free=0)
    a, b, c = (keys(cache, shard, range(3)) for shard in "abc")
    ages = {"a": 5000, "b": 9000, "c": 0}
    for shard, age in ages.items():
        used = next(tmp_path.glob(f"*/*/tiles/{shard}.ao/used"))
        os.utime(used, (used.stat().st_mtime - age,) * 2)
    d = keys(cache, "d", range(3))
    assert not any(map(cache.holds, b))
    assert all(map(cache.holds, [*a, *c, *d]))
    assert cache.used_bytes == 9 * 17 * 4096


def test_reading_counts_as_use(tmp_path: Path) -> None:
    keys(TileCache(tmp_path, max_bytes=TEN, rest_s=600, keep_free=0), "a", range(9))
    used = next(tmp_path.glob("*/*/tiles/a.ao/used"))
    os.utime(used, (used.stat().st_mtime - 5000,) * 2)
    later = TileCache(tmp_path, max_bytes=TEN, rest_s=600, keep_free=0)
    a = keys(later, "a", [0])
    keys(later, "b", range(9))
    assert later.holds(a[0])


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_share_of_the_disk_stays_free_and_the_end_of_room_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, share: float
) -> None:
    disk = os.statvfs(tmp_path)
    kept_free = round(disk.f_blocks * share)

    def spare(num_tiles: int) -> None:
        free = kept_free + num_tiles * 17 * 4096 // disk.f_frsize
        narrow = os.statvfs_result((*disk[:4], free, *disk[5:]))
        monkeypatch.setattr(os, "statvfs", lambda path: narrow)

    cache = TileCache(tmp_path, max_bytes=TEN, keep_free=share)
    monkeypatch.setattr(TileCache, "_used", lambda self: 0)
    spare(5)
    kept = keys(cache, "a", range(5))
    assert not caplog.messages
    spare(0)
    assert not any(map(cache.holds, keys(cache, "b", range(2))))
    assert all(map(cache.holds, kept))
    (said,) = caplog.messages
    assert f"tile_cache.keep_free: less than {share:.0%} of the disk is free" in said


def test_a_cache_that_is_full_of_its_own_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TileCache(tmp_path, max_bytes=TEN, keep_free=0)
    keys(cache, "a", range(11))
    assert not caplog.messages


@pytest.mark.parametrize("fault", ["no space", "half of it"])
def test_a_full_disk_is_said_once_and_tiles_are_decoded(
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
    monkeypatch.setattr("pbrlib.data.tilecache._PAUSE_S", 0.0)
    with caplog.at_level(logging.WARNING):
        assert delivered(shards) == delivered(ShardSet.open(folder))
    assert [str(tmp_path) in record.message for record in caplog.records] == [True]
    assert not list(tmp_path.glob("*/*/beside/*")), "no halves stay"
    assert len(tile_files(tmp_path)) == 2, "what was there is still read"
    monkeypatch.undo()
    assert delivered(shards) == delivered(ShardSet.open(folder))
    assert len(tile_files(tmp_path)) == NUM_TILES, "once there is room, tiles are kept again"


def test_a_place_without_permission_is_no_error(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert delivered(cached(folder, tmp_path / "file")) == delivered(ShardSet.open(folder))
    assert len(caplog.records) == 1


def test_tiles_that_others_could_have_written_are_not_read(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = delivered(cached(folder, tmp_path))
    own = tmp_path / f"pbr-tiles-{os.getuid()}"
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    shards = cached(folder, tmp_path)
    assert num_sent(fetch(DRAWS, shards, MAPS)) > 0
    assert delivered(shards) == wanted
    assert "not a folder of this user alone" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from pbrlib.data.tilecache import TileCache, TileKey
Path.rename = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
tile = np.zeros((1, 256, 256), np.uint8)
cache = TileCache(Path(sys.argv[1]), max_bytes=2**30, keep_free=0)
cache.decode_once(TileKey("a", "ao", 1), lambda: tile, shape=(256, 256, 1), dtype="uint8")
"""


def test_a_writer_that_is_killed_leaves_no_tile_and_no_lock(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60, check=False)
    assert run.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*/*/beside/*"))) == 1
    cache = TileCache(tmp_path, max_bytes=2**30, keep_free=0)
    assert not cache.holds(TileKey("a", "ao", 1))
    assert cache.holds(keys(cache, "a", [1])[0])


def test_the_folder_is_absolute_and_the_size_positive() -> None:
    with pytest.raises(ValidationError, match="not an absolute path"):
        TileCacheSpec(folder="cache")
    with pytest.raises(ValidationError):
        TileCacheSpec(gib=0)
    with pytest.raises(ValidationError):
        TileCacheSpec(keep_free=1)
    made = TileCache.of(TileCacheSpec(gib=0.5, folder="/x", keep_free=0.2))
    assert (made.max_bytes, made.keep_free) == (2**29, 0.2)

"""Tests of the size limit and eviction of the tile cache. One test depends on the free space of the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pbrlib.data.shards.tilecache import TileCache
from pbrlib.data.shards.tilefile import TileKey


def keys(cache: TileCache, shard: str, rows: Sequence[int]) -> list[TileKey]:
    """Put tiles of 64 KiB of a shard into a cache, which may not store all of them."""
    found = [TileKey(shard, "ao", row) for row in rows]
    for key in found:
        pixels = np.full((1, 256, 256), key.row, np.uint8)
        given = cache.decode_once(key, lambda pixels=pixels: pixels, shape=(256, 256, 1), dtype="uint8")
        np.testing.assert_array_equal(given, pixels)
    return found


TEN = 10 * 17 * 4096
"""The bytes of ten tiles with their checksums, in blocks."""


def test_tiles_in_use_are_not_evicted(tmp_path: Path) -> None:
    cache = TileCache(tmp_path, max_bytes=TEN, keep_free=0)
    kept = keys(cache, "a", range(10))
    others = keys(cache, "b", range(5))
    assert all(map(cache.holds, kept))
    assert not any(map(cache.holds, others))
    assert cache.used_bytes == TEN


def test_a_hanging_process_blocks_a_tile_only_for_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbrlib.data.shards.tilecache._LOCK_TIMEOUT_S", 0.05)
    cache = TileCache(tmp_path, max_bytes=TEN, keep_free=0)
    keys(cache, "a", [0])
    key, ones = TileKey("a", "ao", 1), np.ones((1, 256, 256), np.uint8)
    with cache._tile_lock(key):
        given = cache.decode_once(key, lambda: ones, shape=(256, 256, 1), dtype="uint8")
    np.testing.assert_array_equal(given, ones)


def test_processes_do_not_wait_for_tiles_that_are_not_stored(tmp_path: Path) -> None:
    cache = TileCache(tmp_path, max_bytes=4096, keep_free=0)
    keys(cache, "a", [0])  # finds the cache full
    key, ones = TileKey("a", "ao", 1), np.ones((1, 256, 256), np.uint8)
    with cache._tile_lock(key):
        given = cache.decode_once(key, lambda: ones, shape=(256, 256, 1), dtype="uint8")
    np.testing.assert_array_equal(given, ones)


def test_least_recently_used_tiles_are_evicted_by_shard(tmp_path: Path) -> None:
    cache = TileCache(tmp_path, max_bytes=TEN, min_idle_s=600, keep_free=0)
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
    keys(TileCache(tmp_path, max_bytes=TEN, min_idle_s=600, keep_free=0), "a", range(9))
    used = next(tmp_path.glob("*/*/tiles/a.ao/used"))
    os.utime(used, (used.stat().st_mtime - 5000,) * 2)
    later = TileCache(tmp_path, max_bytes=TEN, min_idle_s=600, keep_free=0)
    a = keys(later, "a", [0])
    keys(later, "b", range(9))
    assert later.holds(a[0])


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_share_of_the_disk_stays_free_with_one_warning(
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


def test_a_cache_at_its_maximum_size_gives_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TileCache(tmp_path, max_bytes=TEN, keep_free=0)
    keys(cache, "a", range(11))
    assert not caplog.messages


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.data.shards.tilefile import TileKey
Path.rename = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
tile = np.zeros((1, 256, 256), np.uint8)
cache = TileCache(Path(sys.argv[1]), max_bytes=2**30, keep_free=0)
cache.decode_once(TileKey("a", "ao", 1), lambda: tile, shape=(256, 256, 1), dtype="uint8")
"""


def test_a_killed_writer_leaves_no_tile_and_no_lock(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60, check=False)
    assert run.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*/*/beside/*"))) == 1
    cache = TileCache(tmp_path, max_bytes=2**30, keep_free=0)
    assert not cache.holds(TileKey("a", "ao", 1))
    assert cache.holds(keys(cache, "a", [1])[0])

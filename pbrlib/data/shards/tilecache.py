"""A disk cache of decoded tiles that all processes of a node share.

Each tile of a map is one file, whose name is the SHA-256 of its shard, its map and its row in the shard. All
sets, phases, workers and trials of a node therefore share one folder, and a changed set never reads old
tiles.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pbrlib.data.shards.codec import Planar
from pbrlib.data.shards.readspec import KEEP_FREE, TileCacheSpec
from pbrlib.data.shards.tilefile import (
    BLOCK,
    TileKey,
    append,
    blocks_of,
    lock_within,
    make_private,
    read_tile,
    write_tile,
)

log = logging.getLogger(__name__)

MIN_IDLE_S = 15 * 60.0
"""Tiles of one map of one shard are evicted only if none of them was used for this time.

A set that is larger than the cache therefore keeps a fixed part in it. Evicting at once would write every
decoded tile to the disk and save no more decoding.
"""

_LAYOUT = "1"  # version of the folder layout; another version uses another folder
_USED = "used"  # a file in each folder of tiles: its size is their number of blocks, its mtime the last use
_NUM_LOCKS = 256
_PAUSE_S = 30.0
_LOCK_TIMEOUT_S = 10.0


class TileCache:
    """A disk cache of decoded tiles that all processes of a node share; thread-safe and picklable.

    Errors of the folder or the disk are not raised: a tile that cannot be read from the cache is decoded.
    A file is complete or does not exist, and has a checksum. All files together take at most ``max_bytes``,
    plus one tile for each thread that is writing. A share ``keep_free`` of the disk stays free.

    Eviction removes all tiles of one map of one shard, if none was used for ``min_idle_s``; until then new
    tiles are not stored. A process that is reading an evicted tile can finish reading it.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, min_idle_s: float = MIN_IDLE_S, keep_free: float = KEEP_FREE
    ) -> None:
        self.folder, self.max_bytes, self.min_idle_s, self.keep_free = (
            folder,
            max_bytes,
            min_idle_s,
            keep_free,
        )
        self._root = folder / f"pbr-tiles-{os.getuid()}" / _LAYOUT
        self._is_made = False
        self._touched: dict[tuple[str, str], float] = {}
        self._paused_until = 0.0
        self._has_warned = False
        self._lock = threading.Lock()

    @classmethod
    def of(cls, spec: TileCacheSpec) -> TileCache:
        """Return the cache that a runtime file configures for this node."""
        folder = Path(spec.folder or tempfile.gettempdir())
        return cls(folder, max_bytes=round(spec.gib * 2**30), keep_free=spec.keep_free)

    def __reduce__(self) -> tuple[Callable[..., TileCache], tuple[Any, ...]]:
        return _restore, (self.folder, self.max_bytes, self.min_idle_s, self.keep_free)

    @property
    def used_bytes(self) -> int:
        """The bytes of all tiles on the disk, in complete blocks."""
        usage = self._root / "usage"
        return usage.stat().st_size * BLOCK if usage.exists() else 0

    @property
    def is_storing(self) -> bool:
        """Whether new tiles are stored now: the cache has space, and the disk has not failed recently."""
        return time.monotonic() >= self._paused_until

    def holds(self, key: TileKey) -> bool:
        """Whether the cache has a file for a tile, which may still be damaged, or evicted before a read."""
        return self._ensure_folders() and os.access(self._path(key), os.F_OK)

    def read(self, key: TileKey, *, shape: tuple[int, int, int], dtype: str) -> Planar | None:
        """Return a planar tile ``(C, h, w)``, or None if it is not cached; ``shape`` is ``(h, w, C)``."""
        if not self._ensure_folders():
            return None
        tile = read_tile(self._path(key), key, shape=shape, dtype=dtype)
        if tile is not None:
            self._touch(key)
        return tile

    def decode_once(
        self, key: TileKey, decode: Callable[[], Planar], *, shape: tuple[int, int, int], dtype: str
    ) -> Planar:
        """Decode a tile that ``read`` did not find, store it for all processes, and return it.

        If several processes need the same tile at once, one of them decodes it and the others wait.
        """
        if not self.is_storing:  # no process stores tiles, so waiting for one saves nothing
            return decode()
        with self._tile_lock(key):
            tile = self.read(key, shape=shape, dtype=dtype)
            if tile is None:
                tile = decode()
                self._store(key, tile)
        return tile

    def _folder(self, key: TileKey) -> Path:
        return self._root / "tiles" / f"{key.shard}.{key.map}"

    def _path(self, key: TileKey) -> str:
        # A string, since building a Path takes as long as reading a tile.
        return f"{self._root}/tiles/{key.shard}.{key.map}/{key.row}"

    def _touch(self, key: TileKey) -> None:
        """Update the time of last use of the tiles of a folder, at most every quarter of ``min_idle_s``."""
        now, group = time.monotonic(), (key.shard, key.map)
        if now - self._touched.get(group, -self.min_idle_s) >= self.min_idle_s / 4:
            self._touched[group] = now
            with suppress(OSError):
                os.utime(self._folder(key) / _USED)

    @contextmanager
    def _tile_lock(self, key: TileKey) -> Iterator[None]:
        """Lock a tile, so that no other process decodes it; the lock of a killed process is released.

        Waits at most ``_LOCK_TIMEOUT_S``: decoding a tile twice only costs time.
        """
        file = None
        with self._ignoring_disk_errors():
            if self._ensure_folders():
                path = self._root / "locks" / str(key.seed % _NUM_LOCKS)
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if file is not None:
                lock_within(file, _LOCK_TIMEOUT_S)
            yield
        finally:
            if file is not None:
                os.close(file)

    def _store(self, key: TileKey, tile: Planar) -> None:
        """Write a tile to a temporary file and rename it to its final name, if the cache has space for it."""
        blocks = blocks_of(tile)
        with self._ignoring_disk_errors():
            if not self._ensure_folders():
                return
            if not self._ensure_space(blocks):
                self._paused_until = time.monotonic() + min(_PAUSE_S, self.min_idle_s / 4)
                return
            folder = self._folder(key)
            folder.mkdir(mode=0o700, exist_ok=True)
            write_tile(folder / str(key.row), key, tile, temp_folder=self._root / "beside")
            append(folder / _USED, blocks)
            append(self._root / "usage", blocks)

    def _ensure_folders(self) -> bool:
        """Create the private folders of the cache on the first call; return whether they exist."""
        if not self._is_made:
            with self._lock, self._ignoring_disk_errors():
                if not self._is_made and self.is_storing:
                    _make_folders(self._root)
                    self._is_made = True
        return self._is_made

    @contextmanager
    def _ignoring_disk_errors(self) -> Iterator[None]:
        """Ignore an error of the disk in the block: warn once, and store no tiles for ``_PAUSE_S``."""
        try:
            yield
        except FileNotFoundError:  # the folder of the cache was removed
            self._is_made = False
        except OSError as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            self._warn_once(error)

    def _warn_once(self, reason: object) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s: got %s; expected a folder that can store decoded tiles. Tiles are decoded at every use.",
                self.folder,
                reason,
            )

    def _ensure_space(self, blocks: int) -> bool:
        """Evict tiles if needed; return whether ``blocks`` more blocks fit into the cache."""
        if self._used() + blocks <= self._max_blocks():
            return True
        full = self._root / "full"
        if full.exists() and time.time() - full.stat().st_mtime < self.min_idle_s / 4:
            return False
        with (self._root / "evicting").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another process is evicting
                return False
            self._evict(keep=(self._max_blocks() - blocks) * 9 // 10)
        has_space = self._used() + blocks <= self._max_blocks()
        if not has_space:
            full.touch()
            if self._free_blocks() < blocks:
                self._warn_once(f"tile_cache.keep_free: less than {self.keep_free:.0%} of the disk is free")
        return has_space

    def _used(self) -> int:
        """Return the number of blocks of all tiles: the size of ``usage``, which writers append to."""
        return (self._root / "usage").stat().st_size

    def _max_blocks(self) -> int:
        """Return the maximum number of blocks, from ``max_bytes`` and the free space of the disk."""
        return min(self.max_bytes // BLOCK, self._used() + self._free_blocks())

    def _free_blocks(self) -> int:
        """Return the free blocks of the disk, without the share ``keep_free``."""
        disk = os.statvfs(self._root)
        return (disk.f_bavail - round(disk.f_blocks * self.keep_free)) * disk.f_frsize // BLOCK

    def _evict(self, *, keep: int) -> None:
        """Remove the least recently used folders until ``keep`` blocks are left; correct ``usage``."""
        counted = self._used()
        found = []
        for file in (self._root / "tiles").glob(f"*/{_USED}"):
            state = file.stat()
            found.append((state.st_mtime, state.st_size, file.parent))
        left, now = sum(blocks for _, blocks, _ in found), time.time()
        for used, blocks, folder in sorted(found):
            if left <= keep or now - used < self.min_idle_s:
                break
            folder.rename(tempfile.mkdtemp(dir=self._root / "beside"))
            left -= blocks
        os.truncate(self._root / "usage", max(0, left + self._used() - counted))
        for leftover in (self._root / "beside").iterdir():
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif now - leftover.stat().st_mtime > MIN_IDLE_S:  # the incomplete tile of a killed writer
                leftover.unlink()


def _restore(folder: Path, max_bytes: int, min_idle_s: float, keep_free: float) -> TileCache:
    return TileCache(folder, max_bytes=max_bytes, min_idle_s=min_idle_s, keep_free=keep_free)


def _make_folders(root: Path) -> None:
    make_private(root.parent)
    for folder in (root, root / "tiles", root / "locks", root / "beside"):
        folder.mkdir(mode=0o700, exist_ok=True)
    append(root / "usage", 0)

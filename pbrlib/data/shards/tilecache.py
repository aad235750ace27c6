"""Decoded tiles on a disk of the node: what one process has decoded, none of its others decodes again.

A tile of a map is a file, named by what it holds: the SHA-256 of its shard, its map and its row there. So all
sets, phases, workers and trials of a node share one folder, and a changed set finds nothing of the old one.
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

REST_S = 15 * 60.0
"""Tiles of a map of a shard that was used within this time stay, however full the cache is.

Of a set that is larger than the cache a fixed part is kept, then, instead of all of it passing through: that
would cost a write for every tile decoded, and spare no more.
"""

_LAYOUT = "1"  # of the folder and its files; another one would lie beside
_USED = "used"  # in each folder of tiles: as long as their number of blocks, as old as their last use
_NUM_LOCKS = 256
_PAUSE_S = 30.0
_OTHERS_S = 10.0


class TileCache:
    """Decoded tiles that all processes of a node share. Threads may share it; it pickles.

    Nothing that happens to its folder or disk is an error: a tile that cannot be had from there is decoded.
    A file is complete or does not exist, and carries a checksum. The bytes of all files stay within
    ``max_bytes``, but for a tile of each thread that writes at the moment, and a share ``keep_free`` of the
    disk stays free.

    What makes room is all tiles of one map of one shard, ``rest_s`` after anyone last used one of them;
    until then new tiles are not kept. A process that reads one of them meanwhile reads it to its end.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, rest_s: float = REST_S, keep_free: float = KEEP_FREE
    ) -> None:
        self.folder, self.max_bytes, self.rest_s, self.keep_free = folder, max_bytes, rest_s, keep_free
        self._root = folder / f"pbr-tiles-{os.getuid()}" / _LAYOUT
        self._is_made = False
        self._touched: dict[tuple[str, str], float] = {}
        self._paused_until = 0.0
        self._has_complained = False
        self._lock = threading.Lock()

    @classmethod
    def of(cls, spec: TileCacheSpec) -> TileCache:
        """The cache of this node."""
        folder = Path(spec.folder or tempfile.gettempdir())
        return cls(folder, max_bytes=round(spec.gib * 2**30), keep_free=spec.keep_free)

    def __reduce__(self) -> tuple[Callable[..., TileCache], tuple[Any, ...]]:
        return _restore, (self.folder, self.max_bytes, self.rest_s, self.keep_free)

    @property
    def used_bytes(self) -> int:
        """What the tiles take of the disk, in whole blocks."""
        usage = self._root / "usage"
        return usage.stat().st_size * BLOCK if usage.exists() else 0

    @property
    def is_keeping(self) -> bool:
        """Whether tiles are kept now: neither is the cache full of tiles in use, nor has the disk failed."""
        return time.monotonic() >= self._paused_until

    def holds(self, key: TileKey) -> bool:
        """Whether a tile is there now; it may be gone, or be found damaged, by the time it is read."""
        return self._is_there() and os.access(self._path(key), os.F_OK)

    def read(self, key: TileKey, *, shape: tuple[int, int, int], dtype: str) -> Planar | None:
        """A planar tile ``(C, h, w)`` or None; ``shape`` is the stored one, ``(h, w, C)``."""
        if not self._is_there():
            return None
        tile = read_tile(self._path(key), key, shape=shape, dtype=dtype)
        if tile is not None:
            self._touch(key)
        return tile

    def decode_once(
        self, key: TileKey, decode: Callable[[], Planar], *, shape: tuple[int, int, int], dtype: str
    ) -> Planar:
        """A tile that ``read`` did not find: what ``decode`` gives, which is then kept for the others.

        Of several processes that want a tile at once, one decodes it and the others wait for that one.
        """
        if not self.is_keeping:  # waiting for another would be for nothing
            return decode()
        with self._alone_with(key):
            tile = self.read(key, shape=shape, dtype=dtype)
            if tile is None:
                tile = decode()
                self._keep(key, tile)
        return tile

    def _folder(self, key: TileKey) -> Path:
        return self._root / "tiles" / f"{key.shard}.{key.map}"

    def _path(self, key: TileKey) -> str:
        return f"{self._root}/tiles/{key.shard}.{key.map}/{key.row}"  # a Path takes as long as the reading

    def _touch(self, key: TileKey) -> None:
        """Says, now and then, that the tiles of a folder are in use."""
        now, group = time.monotonic(), (key.shard, key.map)
        if now - self._touched.get(group, -self.rest_s) >= self.rest_s / 4:
            self._touched[group] = now
            with suppress(OSError):
                os.utime(self._folder(key) / _USED)

    @contextmanager
    def _alone_with(self, key: TileKey) -> Iterator[None]:
        """Keeps others from decoding the same tile; a process that is killed lets go.

        Who holds a tile for long is not waited for: that it is decoded twice costs time, and nothing else.
        """
        file = None
        with self._undeterred():
            if self._is_there():
                place = self._root / "locks" / str(key.seed % _NUM_LOCKS)
                file = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if file is not None:
                lock_within(file, _OTHERS_S)
            yield
        finally:
            if file is not None:
                os.close(file)

    def _keep(self, key: TileKey, tile: Planar) -> None:
        """Writes a tile beside and renames it into place, if there is room."""
        blocks = blocks_of(tile)
        with self._undeterred():
            if not self._is_there():
                return
            if not self._make_room(blocks):
                self._paused_until = time.monotonic() + min(_PAUSE_S, self.rest_s / 4)
                return
            folder = self._folder(key)
            folder.mkdir(mode=0o700, exist_ok=True)
            write_tile(folder / str(key.row), key, tile, beside=self._root / "beside")
            append(folder / _USED, blocks)
            append(self._root / "usage", blocks)

    def _is_there(self) -> bool:
        """Whether there is a cache that nobody else can write to; makes its folders when asked first."""
        if not self._is_made:
            with self._lock, self._undeterred():
                if not self._is_made and self.is_keeping:
                    _make_folders(self._root)
                    self._is_made = True
        return self._is_made

    @contextmanager
    def _undeterred(self) -> Iterator[None]:
        """Ends the block where the disk fails, says so once, and keeps nothing for a while."""
        try:
            yield
        except FileNotFoundError:  # somebody removed the cache
            self._is_made = False
        except OSError as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            self._complain(error)

    def _complain(self, reason: object) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning(
                "%s: decoded tiles cannot be kept there (%s); they are decoded each time.",
                self.folder,
                reason,
            )

    def _make_room(self, blocks: int) -> bool:
        """Whether that many blocks more are within the bounds, after making room where they were not."""
        if self._used() + blocks <= self._bound():
            return True
        full = self._root / "full"
        if full.exists() and time.time() - full.stat().st_mtime < self.rest_s / 4:
            return False
        with (self._root / "evicting").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another one is at it
                return False
            self._evict(keep=(self._bound() - blocks) * 9 // 10)
        has_room = self._used() + blocks <= self._bound()
        if not has_room:
            full.touch()
            if self._spare() < blocks:
                self._complain(f"tile_cache.keep_free: less than {self.keep_free:.0%} of the disk is free")
        return has_room

    def _used(self) -> int:
        """Blocks of all tiles: the length of a file, to which whoever keeps one appends without a lock."""
        return (self._root / "usage").stat().st_size

    def _bound(self) -> int:
        """The most blocks that may be used, by the setting and by what the disk has."""
        return min(self.max_bytes // BLOCK, self._used() + self._spare())

    def _spare(self) -> int:
        """Blocks that the disk has beyond those that stay free."""
        disk = os.statvfs(self._root)
        return (disk.f_bavail - round(disk.f_blocks * self.keep_free)) * disk.f_frsize // BLOCK

    def _evict(self, *, keep: int) -> None:
        """Removes the folders that rested longest until ``keep`` blocks are left, and counts anew."""
        counted = self._used()
        found = []
        for file in (self._root / "tiles").glob(f"*/{_USED}"):
            state = file.stat()
            found.append((state.st_mtime, state.st_size, file.parent))
        left, now = sum(blocks for _, blocks, _ in found), time.time()
        for used, blocks, folder in sorted(found):
            if left <= keep or now - used < self.rest_s:
                break
            folder.rename(tempfile.mkdtemp(dir=self._root / "beside"))
            left -= blocks
        os.truncate(self._root / "usage", max(0, left + self._used() - counted))
        for rest in (self._root / "beside").iterdir():
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            elif now - rest.stat().st_mtime > REST_S:  # half a tile, of a writer that was killed
                rest.unlink()


def _restore(folder: Path, max_bytes: int, rest_s: float, keep_free: float) -> TileCache:
    return TileCache(folder, max_bytes=max_bytes, rest_s=rest_s, keep_free=keep_free)


def _make_folders(root: Path) -> None:
    make_private(root.parent)
    for folder in (root, root / "tiles", root / "locks", root / "beside"):
        folder.mkdir(mode=0o700, exist_ok=True)
    append(root / "usage", 0)

"""Files of the tile cache: the planar pixels of a decoded tile, followed by a checksum."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import imagecodecs
import numpy as np

from pbrlib.data.shards.codec import Planar

BLOCK = 4096
"""Block size of the disk in bytes; a file occupies a multiple of it."""

_CRC_BYTES = 4
_POLL_S = 0.002


@dataclass(frozen=True)
class TileKey:
    """The key of a cached tile: a map and a row of the shard with the SHA-256 ``shard``."""

    shard: str
    map: str
    row: int

    @property
    def seed(self) -> int:
        """The initial value of the checksum, so that a file with the name of another tile is detected."""
        return crc32(f"{self.shard}.{self.map}/{self.row}".encode())


def read_tile(path: str, key: TileKey, *, shape: tuple[int, int, int], dtype: str) -> Planar | None:
    """Read a planar tile ``(C, h, w)`` of the stored shape ``(h, w, C)``; None if missing or damaged."""
    height, width, channels = shape
    size = height * width * channels * np.dtype(dtype).itemsize
    content = np.empty(size + _CRC_BYTES + 1, np.uint8)  # one more byte detects files that are too long
    try:
        length = _read(path, content)
    except OSError:
        return None
    pixels, crc = content[:size], content[size:-1]
    if length != size + _CRC_BYTES or crc.tobytes() != _checksum(pixels, key):
        return None
    return pixels.view(dtype).reshape(channels, height, width)


def write_tile(path: Path, key: TileKey, tile: Planar, *, temp_folder: Path) -> None:
    """Write a planar tile to a file in ``temp_folder`` on the same disk, and rename it to ``path``.

    Raises:
        OSError: The file cannot be written; no incomplete file remains.
    """
    file, name = tempfile.mkstemp(dir=temp_folder)
    try:
        try:
            written = os.writev(file, [_flat(tile), _checksum(tile, key)])
            if written != tile.nbytes + _CRC_BYTES:
                raise OSError("only a part of a tile was written")
        finally:
            os.close(file)
        Path(name).rename(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def blocks_of(tile: Planar) -> int:
    """Return the number of blocks of the file of a tile."""
    return -(-(tile.nbytes + _CRC_BYTES) // BLOCK)


def append(path: Path, num_bytes: int) -> None:
    """Append bytes to a file, which is created if missing; several processes may append at the same time."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, bytes(num_bytes))
    finally:
        os.close(file)


def make_private(folder: Path) -> None:
    """Create a folder that only this user can access.

    Raises:
        PermissionError: The folder exists and belongs to another user, or other users can access it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder}: got a folder that other users can access; expected a private one")


def lock_within(file: int, limit_s: float) -> None:
    """Lock an open file; give up if another process holds the lock for ``limit_s``."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_POLL_S)


def _read(path: str, content: Planar) -> int:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.readv(file, [_flat(content)])
    finally:
        os.close(file)


def _checksum(pixels: Planar, key: TileKey) -> bytes:
    return int(imagecodecs.deflate_crc32(_flat(pixels), key.seed)).to_bytes(_CRC_BYTES, "little")


def _flat(pixels: Planar) -> Any:
    """Return the bytes of pixels as a memory view, without a copy."""
    flat: Any = pixels.reshape(-1).view(np.uint8)
    return memoryview(flat)

"""A decoded tile in a file: planar pixels, then a checksum that begins with the name of what they are."""

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
"""Bytes of which a file takes a whole number."""

_CRC_BYTES = 4
_LOOK_AGAIN_S = 0.002


@dataclass(frozen=True)
class TileKey:
    """What a file of the cache holds: one map of one row of the shard whose SHA-256 is ``shard``."""

    shard: str
    map: str
    row: int

    @property
    def seed(self) -> int:
        """Where the checksum of its pixels begins, so that a file under another name is wrong."""
        return crc32(f"{self.shard}.{self.map}/{self.row}".encode())


def read_tile(path: str, key: TileKey, *, shape: tuple[int, int, int], dtype: str) -> Planar | None:
    """A planar tile ``(C, h, w)``, whose stored shape is ``(h, w, C)``; None for no file or a damaged one."""
    height, width, channels = shape
    size = height * width * channels * np.dtype(dtype).itemsize
    content = np.empty(size + _CRC_BYTES + 1, np.uint8)  # a byte more, to see that no more comes
    try:
        length = _read(path, content)
    except OSError:
        return None
    pixels, crc = content[:size], content[size:-1]
    if length != size + _CRC_BYTES or crc.tobytes() != _checksum(pixels, key):
        return None
    return pixels.view(dtype).reshape(channels, height, width)


def write_tile(path: Path, key: TileKey, tile: Planar, *, beside: Path) -> None:
    """Writes a planar tile into a folder on the same disk, then renames it: there are no half files.

    Raises:
        OSError: The disk did not take it; nothing is left there.
    """
    file, name = tempfile.mkstemp(dir=beside)
    try:
        try:
            written = os.writev(file, [_flat(tile), _checksum(tile, key)])
            if written != tile.nbytes + _CRC_BYTES:
                raise OSError("the disk took a part of a tile")
        finally:
            os.close(file)
        Path(name).rename(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def blocks_of(tile: Planar) -> int:
    """How many blocks its file takes."""
    return -(-(tile.nbytes + _CRC_BYTES) // BLOCK)


def append(path: Path, num_bytes: int) -> None:
    """Makes a file longer, or makes it: of several processes that do so at once none undoes another's."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, bytes(num_bytes))
    finally:
        os.close(file)


def make_private(folder: Path) -> None:
    """A folder of this user alone.

    Raises:
        PermissionError: It is somebody else's, or open to others.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone")


def lock_within(file: int, limit_s: float) -> None:
    """Takes the lock of an open file, or leaves it to who holds it for so long."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_LOOK_AGAIN_S)


def _read(path: str, content: Planar) -> int:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.readv(file, [_flat(content)])
    finally:
        os.close(file)


def _checksum(pixels: Planar, key: TileKey) -> bytes:
    return int(imagecodecs.deflate_crc32(_flat(pixels), key.seed)).to_bytes(_CRC_BYTES, "little")


def _flat(pixels: Planar) -> Any:
    """The bytes of pixels, not copied, as what the libraries call a buffer."""
    flat: Any = pixels.reshape(-1).view(np.uint8)
    return memoryview(flat)

"""Decoders that crash, hang or fail; imported by child processes, so it imports little."""

import os
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path

from pbrlib.convert.truepbr import DiskFullError
from pbrlib.textures.decode import Texture, read_texture
from pbrlib.textures.metadata import Use


def crashing_reader(path: Path, *, use: Use = "data") -> Texture:
    """Decode a file, but crash on files named ``crash*`` and hang on ``hang*``."""
    if path.name.startswith("crash"):
        os.abort()
    if path.name.startswith("hang"):
        while True:
            pass
    return read_texture(path, use=use)


def exiting_reader(path: Path) -> Texture:
    """Exit the process instead of decoding."""
    os._exit(3)


def never_ready(pipe: Connection) -> None:
    """Hang before the first call is read."""
    time.sleep(1000)


def stopping_in_its_answer(pipe: Connection) -> None:
    """Announce a thousand bytes but send three."""
    pipe.recv()
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"abc")
    time.sleep(1000)


def refusing_writer(*given: object) -> list[str]:
    """Raise the error of a full disk."""
    raise DiskFullError("out: cannot be written (No space left on device). Make room.")

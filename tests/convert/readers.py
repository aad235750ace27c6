"""Decoders that misbehave; children import this module, so it imports little."""

import os
import struct
import time
from multiprocessing.connection import Connection
from pathlib import Path

from pbrlib.convert.truepbr import DiskFullError
from pbrlib.textures.decode import Texture, read_texture
from pbrlib.textures.metadata import Use


def crashing_reader(path: Path, *, use: Use = "data") -> Texture:
    """A decoder that kills its process over files named ``crash*`` and hangs over ``hang*``."""
    if path.name.startswith("crash"):
        os.abort()
    if path.name.startswith("hang"):
        while True:
            pass
    return read_texture(path, use=use)


def exiting_reader(path: Path) -> Texture:
    """A decoder that ends its process quietly."""
    os._exit(3)


def never_ready(pipe: Connection) -> None:
    """A child that hangs before it reads what it is to do."""
    time.sleep(1000)


def stopping_in_its_answer(pipe: Connection) -> None:
    """A child that announces a thousand bytes and sends three."""
    pipe.recv()
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"abc")
    time.sleep(1000)


def refusing_writer(*given: object) -> list[str]:
    """A writer to a disk that is full."""
    raise DiskFullError("out: cannot be written (No space left on device). Make room.")

"""Decoders that misbehave; children import this module, so it imports little."""

import os
from pathlib import Path

from pbrlib.textures.blocks import Bytes
from pbrlib.textures.decode import read_picture


def crashing_reader(path: Path) -> Bytes:
    """A decoder that kills its process over files named ``crash*`` and hangs over ``hang*``."""
    if path.name.startswith("crash"):
        os.abort()
    if path.name.startswith("hang"):
        while True:
            pass
    return read_picture(path)


def exiting_reader(path: Path) -> Bytes:
    """A decoder that ends its process quietly."""
    os._exit(3)

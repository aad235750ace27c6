"""The contact sheet of a conversion: one row a texture, old diffuse and normal beside the new maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pbrlib.data.materials.contact import Picture, contact_sheet
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import DIFFUSE, MAPS, NORMAL, TRUE_PBR

NAME = "contact.png"
MAX_ROWS = 12
THUMBNAIL = 160
COLUMNS = tuple(name for name in MAPS if name in (DIFFUSE.name, NORMAL.name, *TRUE_PBR))
"""The old maps and those that True PBR needs."""


def thumbnails(texture: TextureInput, maps: Mapping[str, Tensor]) -> dict[str, Picture]:
    """The row of one texture, small enough to keep until the end.

    Args:
        texture: the old texture; its normal is shown as it is inside the product, OpenGL.
        maps: the predicted maps (C, H, W) in [0, 1].
    """
    pictures = {DIFFUSE.name: texture.diffuse, NORMAL.name: texture.normal * 0.5 + 0.5, **maps}
    return {column: _thumbnail(pictures[column]) for column in COLUMNS}


class Sheet:
    """Collects rows as textures are finished; of many textures, evenly spread ones are shown."""

    def __init__(self, *, num_textures: int) -> None:
        self._stride = max(1, -(-num_textures // MAX_ROWS))
        self._rows: list[tuple[str, Mapping[str, Picture]]] = []

    def add(self, name: str, row: Mapping[str, Picture], *, place: int) -> None:
        """Takes a row if its place among all textures is one that is shown."""
        if place % self._stride == 0:
            self._rows.append((name, row))

    def encode(self) -> bytes:
        """The sheet as a PNG file."""
        return contact_sheet(self._rows, columns=COLUMNS, thumbnail=THUMBNAIL)


def _thumbnail(picture: Tensor) -> Picture:
    """(C, H, W) in [0, 1] to (h, w, 3) uint8, at most twice the thumbnail so that the sheet can fit it."""
    colours = picture.float().cpu().expand(3, -1, -1)
    factor = max(1, max(colours.shape[-2:]) // (2 * THUMBNAIL))
    small = F.avg_pool2d(colours, factor, ceil_mode=True) if factor > 1 else colours
    pixels = (small.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

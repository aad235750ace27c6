"""Draws the contact sheet of a conversion: a row per texture with old diffuse, normal and new maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pbrlib.data.materials.contact import Picture, contact_sheet
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import DIFFUSE, MAPS, NORMAL, TRUE_PBR

SHEET_FILE = "contact.png"
MAX_ROWS = 12
THUMBNAIL = 160
COLUMNS = tuple(name for name in MAPS if name in (DIFFUSE.name, NORMAL.name, *TRUE_PBR))
"""Maps that are shown: diffuse, normal, and the maps of True PBR."""


def thumbnails(texture: TextureInput, maps: Mapping[str, Tensor]) -> dict[str, Picture]:
    """Return the row of a texture as thumbnails.

    Args:
        texture: The old texture; its normal is shown in OpenGL convention.
        maps: Predicted maps (C, H, W) in [0, 1].
    """
    pictures = {DIFFUSE.name: texture.diffuse, NORMAL.name: texture.normal * 0.5 + 0.5, **maps}
    return {column: _make_thumbnail(pictures[column]) for column in COLUMNS}


class Sheet:
    """Collects rows of a contact sheet; of many textures, evenly spaced ones are shown."""

    def __init__(self, *, num_textures: int) -> None:
        self._stride = max(1, -(-num_textures // MAX_ROWS))
        self._rows: list[tuple[str, Mapping[str, Picture]]] = []

    def add(self, name: str, row: Mapping[str, Picture], *, place: int) -> None:
        """Add a row if the texture with index ``place`` is shown."""
        if place % self._stride == 0:
            self._rows.append((name, row))

    def encode(self) -> bytes:
        """Return the sheet as a PNG file."""
        return contact_sheet(self._rows, columns=COLUMNS, thumbnail=THUMBNAIL)


def _make_thumbnail(picture: Tensor) -> Picture:
    """Return (C, H, W) in [0, 1] as (h, w, 3) uint8, reduced to less than about twice the thumbnail size."""
    colours = picture.float().cpu().expand(3, -1, -1)
    factor = max(1, max(colours.shape[-2:]) // (2 * THUMBNAIL))
    small = F.avg_pool2d(colours, factor, ceil_mode=True) if factor > 1 else colours
    pixels = (small.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

"""A contact sheet of conversions: one row a texture, old diffuse and normal beside the new maps."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from pbrlib.inference.chain import TextureInput

NAME = "contact.png"
MAX_ROWS = 12
THUMBNAIL = 160
COLUMNS = ("diffuse", "albedo", "normal", "roughness", "metallic", "ao", "height")
_CAPTION = 14


def thumbnails(texture: TextureInput, maps: Mapping[str, Tensor]) -> list[Tensor]:
    """The row of one texture, ``COLUMNS`` as (T, T, 3) uint8.

    Args:
        texture: the old texture; its normal is shown as it is inside the product, OpenGL.
        maps: the predicted maps (C, H, W) in [0, 1].
    """
    pictures = {"diffuse": texture.diffuse, "normal": texture.normal * 0.5 + 0.5, **maps}
    return [_thumbnail(pictures[column]) for column in COLUMNS]


class Sheet:
    """Collects rows as textures are finished; of many textures, evenly spread ones are shown."""

    def __init__(self, *, num_textures: int) -> None:
        self._stride = max(1, -(-num_textures // MAX_ROWS))
        self._rows: list[tuple[str, list[Tensor]]] = []

    def add(self, name: str, row: list[Tensor], *, place: int) -> None:
        """Takes the thumbnails of a texture if its place among all textures is one that is shown."""
        if place % self._stride == 0:
            self._rows.append((name, row))

    def encode(self) -> bytes:
        """The sheet as a PNG file."""
        from PIL import Image, ImageDraw

        row = THUMBNAIL + _CAPTION
        sheet = Image.new("RGB", (THUMBNAIL * len(COLUMNS), _CAPTION + row * len(self._rows)), "white")
        draw = ImageDraw.Draw(sheet)
        for column, heading in enumerate(COLUMNS):
            draw.text((column * THUMBNAIL + 2, 1), heading, fill="black")
        for index, (name, pictures) in enumerate(self._rows):
            top = _CAPTION + index * row
            draw.text((2, top + 1), name.encode("ascii", "replace").decode(), fill="black")
            for column, picture in enumerate(pictures):
                sheet.paste(Image.fromarray(picture.numpy()), (column * THUMBNAIL, top + _CAPTION))
        file = io.BytesIO()
        sheet.save(file, "PNG")
        return file.getvalue()


def _thumbnail(picture: Tensor) -> Tensor:
    """(C, H, W) in [0, 1] to (T, T, 3) uint8, letterboxed in white."""
    colours = picture.float().cpu().expand(3, -1, -1)[None]
    scale = THUMBNAIL / max(colours.shape[-2:])
    size = [max(1, round(side * scale)) for side in colours.shape[-2:]]
    small = F.interpolate(colours, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
    canvas = torch.ones(3, THUMBNAIL, THUMBNAIL)
    canvas[:, : size[0], : size[1]] = small.clamp(0.0, 1.0)
    return (canvas * 255.0).round().to(torch.uint8).permute(1, 2, 0).contiguous()

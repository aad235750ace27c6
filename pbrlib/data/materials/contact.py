"""Draws contact sheets of stored maps: one row per material, one column per map."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, assert_never

import numpy as np

from pbrlib.maps import CLASS_COLOURS, IGNORE, Encoding, MapType, Stored

Picture: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

_CAPTION = 14
_ABSENT = 235


def as_picture(stored: Stored, kind: MapType) -> Picture:
    """Convert a stored map ``(H, W, C)`` to a picture ``(H, W, 3)`` to look at.

    Colours and normals do not change. Scalars become grey; of a relief the height is shown. Classes get the
    colours of the mask palette, and ignored pixels are black.
    """
    match kind.encoding:
        case Encoding.LABEL:
            colours = np.zeros((IGNORE + 1, 3), np.uint8)
            colours[: len(CLASS_COLOURS)] = CLASS_COLOURS
            return colours[stored[..., 0]]
        case Encoding.SRGB | Encoding.LINEAR | Encoding.SIGNED | Encoding.NORMAL:
            shown = stored if kind.channels == 3 else stored[..., :1]
            bits = np.rint(shown * (255.0 / kind.maximum)).astype(np.uint8)
            return np.broadcast_to(bits, (*bits.shape[:2], 3))
        case _:
            assert_never(kind.encoding)


def contact_sheet(
    rows: Sequence[tuple[str, Mapping[str, Picture]]], *, columns: Sequence[str], thumbnail: int = 160
) -> bytes:
    """Draw pictures in a grid, with the names of the columns and a caption for each row, as a PNG file.

    Args:
        rows: For each row its caption, and its pictures ``(H, W, 3)`` uint8 by column, of any size. Cells of
            missing pictures are grey.
        columns: The columns in order.
        thumbnail: Side of a cell in pixels; pictures are resized to it with their aspect ratio.
    """
    from PIL import Image, ImageDraw

    size = (thumbnail * len(columns), _CAPTION + (thumbnail + _CAPTION) * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(columns):
        draw.text((column * thumbnail + 2, 1), heading, fill="black")
    for number, (caption, pictures) in enumerate(rows):
        top = _CAPTION + number * (thumbnail + _CAPTION)
        draw.text((2, top + 1), caption.encode("ascii", "replace").decode(), fill="black")
        for column, heading in enumerate(columns):
            cell = _cell(pictures.get(heading), thumbnail)
            sheet.paste(Image.fromarray(cell), (column * thumbnail, top + _CAPTION))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _cell(picture: Picture | None, thumbnail: int) -> Picture:
    """Fit a picture into a white square; it is reduced by averaging or enlarged by repetition."""
    from PIL import Image

    inner = thumbnail - 2
    cell = np.full((thumbnail, thumbnail, 3), 255, np.uint8)
    if picture is None:
        cell[:inner, :inner] = _ABSENT
        return cell
    height, width = picture.shape[:2]
    scale = inner / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    fitted = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, how))
    cell[: fitted.shape[0], : fitted.shape[1]] = fitted
    return cell

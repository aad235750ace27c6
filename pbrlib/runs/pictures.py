"""Reads the validation pictures of a phase from TensorBoard's events, and pairs those of two runs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pbrlib import storage

if TYPE_CHECKING:
    from PIL.Image import Image

TENSORBOARD = "tensorboard"
TAG = "validation"
PANELS = 3
"""Number of panels of a picture, side by side: input, prediction, truth."""

_CAPTION = 16
_GAP = 8


@dataclass(frozen=True)
class ValidationPicture:
    """The contact sheet of a validation, as an encoded image file."""

    step: int
    data: bytes


def pictures(folder: Path) -> list[ValidationPicture]:
    """Read all pictures of a phase's folder by step; a repeated step has its later picture."""
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    board = folder / TENSORBOARD
    if not board.is_dir():
        return []
    with storage.fetched_folder(board) as here:
        # Repeated steps have several pictures, of which the last is used; purging would only log warnings.
        events = EventAccumulator(str(here), size_guidance={IMAGES: 0}, purge_orphaned_data=False).Reload()
    if TAG not in events.Tags()[IMAGES]:
        return []
    found = {
        event.step: ValidationPicture(event.step, event.encoded_image_string) for event in events.Images(TAG)
    }
    return [found[step] for step in sorted(found)]


def nearest_picture(found: list[ValidationPicture], step: int) -> ValidationPicture | None:
    """Return the picture of a step, or of the closest step."""
    return min(found, key=lambda picture: abs(picture.step - step), default=None)


def same_input(first: ValidationPicture, second: ValidationPicture) -> bool:
    """Return whether two pictures show the same textures, by comparing their left panels."""
    ours, theirs = (np.asarray(_decode(picture)) for picture in (first, second))
    if ours.shape != theirs.shape:
        return False
    width = ours.shape[1] // PANELS
    return bool(np.array_equal(ours[:, :width], theirs[:, :width]))


def thumbnail(shown: ValidationPicture, *, max_width: int) -> bytes:
    """Encode a picture as a JPEG file of at most ``max_width`` pixels of width."""
    picture = _decode(shown)
    if picture.width > max_width:
        picture = picture.resize((max_width, max(1, round(picture.height * max_width / picture.width))))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def side_by_side(rows: list[tuple[str, ValidationPicture | None, str, ValidationPicture | None]]) -> bytes:
    """Render a PNG file with one row per pair: caption and picture of each run, side by side."""
    from PIL import Image, ImageDraw

    opened = [
        (one, _decode(left) if left else None, two, _decode(right) if right else None)
        for one, left, two, right in rows
    ]
    sides = [[row[1] for row in opened], [row[3] for row in opened]]
    widths = [max((picture.width for picture in side if picture), default=200) for side in sides]
    heights = [max((picture.height for picture in (row[1], row[3]) if picture), default=0) for row in opened]
    sheet = Image.new("RGB", (sum(widths) + _GAP, sum(heights) + (_CAPTION + _GAP) * len(rows)), "white")
    draw: Any = ImageDraw.Draw(sheet)
    top = 0
    for (one, left, two, right), height in zip(opened, heights, strict=True):
        for x, caption, picture in ((0, one, left), (widths[0] + _GAP, two, right)):
            draw.text((x + 2, top + 2), caption.encode("ascii", "replace").decode(), fill="black")
            if picture is not None:
                sheet.paste(picture, (x, top + _CAPTION))
        top += height + _CAPTION + _GAP
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _decode(shown: ValidationPicture) -> Image:
    from PIL import Image

    return Image.open(io.BytesIO(shown.data)).convert("RGB")

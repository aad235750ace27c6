"""Draws a picture of some draws before and after augmentation, with the maps side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from pbrlib.data.draws.batch import Batch
from pbrlib.data.materials.contact import Picture, as_picture, contact_sheet
from pbrlib.maps import MAPS, Encoding

CELL = 160
"""Side of each thumbnail on the sheet, in pixels."""

OUTLINE = (255, 0, 0)
"""The colour of the borders between the parts of a mosaic, and around pixels that the loss ignores."""


def preview_sheet(before: Batch, after: Batch, *, maps: Sequence[str], captions: Sequence[str]) -> bytes:
    """Return a PNG file with a row for each sample and two columns for each map.

    Args:
        before: The samples, only decoded and baked.
        after: The same samples, augmented. Their pictures show outlines of the parts of a mosaic and of the
            pixels that the loss ignores.
        maps: The maps to show; a cell is grey if the sample lacks the map.
        captions: One caption for each sample.
    """
    rows = []
    for number, caption in enumerate(captions):
        outline = _outline(after, number)
        pictures = {}
        for name in maps:
            if bool(before.present[name][number]):
                pictures[f"{name} before"] = _picture(before, name, number)
                shown = _picture(after, name, number).copy()
                shown[outline] = OUTLINE
                pictures[f"{name} after"] = shown
        rows.append((caption, pictures))
    columns = [f"{name} {moment}" for name in maps for moment in ("before", "after")]
    return contact_sheet(rows, columns=columns, thumbnail=CELL)


def _picture(batch: Batch, name: str, number: int) -> Picture:
    kind, x = MAPS[name], batch.maps[name][number].cpu()
    if kind.encoding is Encoding.LABEL:
        return as_picture(x[..., None].numpy().astype(kind.dtype), kind)
    return as_picture(kind.quantise(x.permute(1, 2, 0).numpy()), kind)


def _outline(batch: Batch, number: int) -> np.ndarray:
    """Return the pixels where the part of a mosaic or the validity changes, widened to show on the sheet."""
    valid: Bool[Tensor, "1 h w"] = batch.valid[number]
    parts: UInt8[Tensor, "1 h w"] = valid.to(torch.uint8)
    if batch.regions is not None:
        parts = parts + 2 * batch.regions[number]
    changes = torch.zeros_like(valid, dtype=torch.float32)
    changes[..., :, 1:] += (parts[..., :, 1:] != parts[..., :, :-1]).float()
    changes[..., 1:, :] += (parts[..., 1:, :] != parts[..., :-1, :]).float()
    reach = max(parts.shape[-2:]) // CELL
    wide = torch.nn.functional.max_pool2d(changes[None], 2 * reach + 1, stride=1, padding=reach)
    outline: np.ndarray = (wide[0, 0] > 0).cpu().numpy()
    return outline

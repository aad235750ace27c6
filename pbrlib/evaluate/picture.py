"""Contact sheets of an evaluation: inputs, prediction, truth and error of some textures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from pbrlib.data.materials.contact import Picture, as_picture, contact_sheet
from pbrlib.data.shards.index import IndexRow
from pbrlib.evaluate.samples import Texture
from pbrlib.evaluate.scores import SEGMENTATION
from pbrlib.maps import DIFFUSE, GLOSS, IGNORE, MAPS, MASK, NORMAL, TARGETS, MapType

MAX_TEXTURES = 12
TEXTURES_PER_SHEET = 4
CELL = 192
"""Side in pixels of an image on the sheet."""

ERROR_SCALE = 0.5
"""The mean absolute error shown as white; black is 0, with red and yellow between."""

_INPUT = "input"

Row = tuple[str, Mapping[str, Picture]]


def choose_textures(rows: Sequence[IndexRow], *, num: int = MAX_TEXTURES) -> frozenset[str]:
    """Choose the ids of the textures to show, alternating between classes."""
    by_class: dict[str, list[str]] = {}
    for row in rows:
        by_class.setdefault(row.label or "", []).append(row.id)
    turns = [
        ids[turn]
        for turn in range(max((len(ids) for ids in by_class.values()), default=0))
        for _, ids in sorted(by_class.items())
        if turn < len(ids)
    ]
    return frozenset(turns[:num])


def sheet_rows(texture: Texture, predicted: Mapping[str, Tensor]) -> list[Row]:
    """Build three rows of a texture (prediction, truth, error), each with an input map first.

    Args:
        texture: The texture with its ground truth.
        predicted: Maps (C, H, W) in [0, 1] and class probabilities, as the chain predicts them.
    """
    given = texture.given
    prediction: dict[str, Picture] = {_INPUT: _shown(given.diffuse, DIFFUSE)}
    truth: dict[str, Picture] = {_INPUT: _shown(given.normal, NORMAL)}
    error: dict[str, Picture] = {} if given.gloss is None else {_INPUT: _shown(given.gloss, GLOSS)}
    for name in TARGETS:
        if name in predicted:
            prediction[name] = _shown(predicted[name].cpu(), MAPS[name])
            if name in texture.truth:
                truth[name] = _shown(texture.truth[name], MAPS[name])
                error[name] = _heat(predicted[name].cpu() - texture.truth[name])
    if SEGMENTATION in predicted:
        labels = predicted[SEGMENTATION].cpu().argmax(dim=0)
        prediction[SEGMENTATION] = _classes(labels)
        truth[SEGMENTATION] = _classes(texture.mask)
        wrong = (labels != texture.mask) & (texture.mask != IGNORE)
        error[SEGMENTATION] = _heat(wrong[None] * (ERROR_SCALE / 3.0))  # red
    name = f"{texture.id}  ({texture.label or 'several or unknown'})"
    return [
        (f"{name}   PREDICTION   input: {DIFFUSE.name}", prediction),
        (f"{name}   TRUTH   input: {NORMAL.name}", truth),
        (f"{name}   ERROR, white from {ERROR_SCALE}   input: {GLOSS.name}", error),
    ]


def sheets(textures: Sequence[Sequence[Row]]) -> list[bytes]:
    """Render PNG contact sheets of a few textures each; maps without a prediction have no column."""
    names = {name for rows in textures for _, pictures in rows for name in pictures}
    columns = [name for name in (_INPUT, *TARGETS, SEGMENTATION) if name in names]
    parts = [textures[i : i + TEXTURES_PER_SHEET] for i in range(0, len(textures), TEXTURES_PER_SHEET)]
    return [
        contact_sheet([row for rows in part for row in rows], columns=columns, thumbnail=CELL)
        for part in parts
    ]


def _shown(x: Float[Tensor, "c h w"], kind: MapType) -> Picture:
    """Convert a decoded map to an image for contact sheets."""
    return as_picture(kind.quantise(_small(x.float()).permute(1, 2, 0).numpy()), kind)


def _heat(error: Float[Tensor, "c h w"]) -> Picture:
    """Render the mean absolute error over channels from black over red and yellow to white."""
    share = error.abs().mean(dim=0, keepdim=True) / ERROR_SCALE * 3.0
    ramp = share.expand(3, -1, -1) - share.new_tensor([0.0, 1.0, 2.0]).view(3, 1, 1)
    return _shown(ramp.clamp(0.0, 1.0), DIFFUSE)


def _classes(labels: Int64[Tensor, "h w"]) -> Picture:
    step = max(1, min(labels.shape) // CELL)
    return as_picture(labels[::step, ::step, None].numpy(), MASK)


def _small(x: Tensor) -> Tensor:
    """Downscale to about twice the cell size, since maps at full size would fill the memory."""
    factor = max(1, min(x.shape[-2:]) // (2 * CELL))
    return F.avg_pool2d(x, factor) if factor > 1 else x

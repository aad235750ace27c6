"""Loads validation textures for evaluation: network inputs and the ground truth of each map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import Batch, RawBatch
from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.index import IndexRow
from pbrlib.inference.chain import TextureInput
from pbrlib.maps import ALBEDO, DIFFUSE, GLOSS, IGNORE, MASK, NORMAL, TARGETS
from pbrlib.rendering.bakespec import BAKE_INPUTS
from pbrlib.train.validation import MULTIPLE, load_validation, size_of

READ = tuple(dict.fromkeys((DIFFUSE.name, GLOSS.name, *BAKE_INPUTS, *TARGETS, MASK.name)))
"""Every map that is an input, a ground truth, or an input of the bake."""


@dataclass(frozen=True)
class Texture:
    """One texture with its ground truth.

    Attributes:
        id: Id of the material.
        label: The class; None if it is unknown or not unique.
        given: The input of the networks.
        truth: The maps of the material, (C, H, W) in [0, 1].
        mask: Class ids, 255 if unknown.
        valid: Mask of the pixels that are scored.
    """

    id: str
    label: str | None
    given: TextureInput
    truth: Mapping[str, Float[Tensor, "c h w"]]
    mask: Int64[Tensor, "h w"]
    valid: Bool[Tensor, "1 h w"]


def validation_rows(shards: DataSet) -> tuple[IndexRow, ...]:
    """Select the validation materials with an old diffuse, or with an albedo to bake one from."""
    return tuple(row for row in shards.rows if row.split == "val" and _has_input(row) and _fits(row))


def validation_textures(shards: DataSet) -> Iterator[Texture]:
    """Yield the textures of ``validation_rows``, read one by one.

    Textures are whole, and cropped and baked exactly as in the validation during training.
    """
    rows = {row.id: row for row in shards.rows}
    num = sum(row.split == "val" for row in shards.rows)
    for turn in range(num):
        for loaded in load_validation(shards, maps=READ, required=(NORMAL.name,), rank=turn, world=num):
            row = rows[loaded.raw.ids[0]]
            if _has_input(row):
                yield as_texture(loaded.raw, row)


def as_texture(raw: RawBatch, row: IndexRow) -> Texture:
    """Decode a raw batch of one material; bake its old diffuse if it has none."""
    batch = augment(raw, AugmentSpec(), device="cpu")
    height, width = batch.valid.shape[-2:]
    is_uncropped = (height, width) == size_of(row)
    gloss = batch.maps[GLOSS.name][0] if has(batch, GLOSS.name) else None
    return Texture(
        id=row.id,
        label=row.label,
        given=TextureInput(
            diffuse=batch.maps[DIFFUSE.name][0],
            normal=batch.maps[NORMAL.name][0],
            gloss=gloss,
            tileable=row.tileable and is_uncropped,
        ),
        truth={name: batch.maps[name][0] for name in TARGETS if has(batch, name)},
        mask=batch.maps[MASK.name][0]
        if has(batch, MASK.name)
        else torch.full((height, width), IGNORE, dtype=torch.int64),
        valid=batch.valid[0],
    )


def has(batch: Batch, name: str) -> bool:
    """Return whether the only sample of a batch has a map, either stored or baked."""
    return name in batch.present and bool(batch.present[name][0])


def _has_input(row: IndexRow) -> bool:
    return NORMAL.name in row.maps and (DIFFUSE.name in row.maps or ALBEDO.name in row.maps)


def _fits(row: IndexRow) -> bool:
    return min(size_of(row)) >= MULTIPLE

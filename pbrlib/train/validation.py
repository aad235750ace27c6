"""Loads the validation textures of one rank into memory and computes the metrics over them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.collate import stack
from pbrlib.data.materials.pictures import limit_size, to_stored
from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.window import Window
from pbrlib.maps import MAPS, Stored
from pbrlib.metrics.sums import Sums
from pbrlib.seeds import mix
from pbrlib.train.runtime import Runtime
from pbrlib.train.task import Task

SIDE = 1024
"""The largest side of a validation texture in pixels, given by the recipe; larger ones are downscaled."""

SHOWN, SHOWN_PX = 4, 256
"""Number of textures in a contact sheet, and the height of each in pixels."""

MULTIPLE = 32
"""Sides are cut to a multiple of this, the coarsest stride of any network."""


@dataclass(frozen=True)
class ValidationTexture:
    """One whole texture as a batch of one, with the source it comes from."""

    source: str
    raw: RawBatch


def load_validation(
    shards: DataSet, *, maps: Sequence[str], required: Sequence[str], rank: int, world: int
) -> tuple[ValidationTexture, ...]:
    """Read every ``world``-th validation texture that has the required maps."""
    return load_textures(shards, validated(shards.rows, required=required)[rank::world], maps=maps)


def load_textures(
    shards: DataSet, rows: Iterable[IndexRow], *, maps: Sequence[str]
) -> tuple[ValidationTexture, ...]:
    """Read materials for validation.

    The seed of a texture's bake derives from its id only, so every phase and run validates the same input.
    """
    textures = []
    for row in rows:
        crop = _whole(shards, row, [name for name in maps if name in row.maps])
        raw = stack([crop], rows=[row], seeds=[mix("validation", row.id)], maps=maps)
        textures.append(ValidationTexture(row.source, raw))
    return tuple(textures)


def validated(rows: Iterable[IndexRow], *, required: Collection[str]) -> list[IndexRow]:
    """Select the validation materials that have the required maps and are large enough."""
    needed = set(required)
    held_out = [row for row in rows if row.split == "val" and needed <= set(row.maps)]
    return [row for row in held_out if min(size_of(row)) >= MULTIPLE]


def size_of(row: IndexRow) -> tuple[int, int]:
    """Return the height and width for validation, before cropping to multiples of the stride."""
    return limit_size((row.height, row.width), max_side=SIDE)


def validate(task: Task, validation: Sequence[ValidationTexture], runtime: Runtime) -> dict[str, float]:
    """Compute the metrics over the validation textures of all ranks, in total and by source."""
    for player in task.players:
        player.module.eval()
    sums = Sums()
    with torch.no_grad():
        for texture in validation:
            batch = augment(texture.raw, AugmentSpec(), device=runtime.device)
            measured = task.evaluate(batch)
            for source in ("all", texture.source):
                sums.merge(measured.under(f"val/{source}"))
    return sums.reduce(runtime.all_reduce).results()


def contact_sheet(
    task: Task, validation: Sequence[ValidationTexture], *, device: torch.device
) -> Float[Tensor, "3 h w"]:
    """Stack the pictures of a few textures, always the same ones, vertically.

    The result is sRGB in [0, 1]; each picture is at most 256 px high, with white beside narrower ones.
    """
    rows = []
    for texture in validation[:: -(-len(validation) // SHOWN)]:
        with torch.no_grad():
            row = task.picture(augment(texture.raw, AugmentSpec(), device=device))
        height, width = row.shape[-2:]
        if height > SHOWN_PX:
            size = (SHOWN_PX, round(width * SHOWN_PX / height))
            row = F.interpolate(row[None].float(), size, mode="bilinear", antialias=True)[0]
        rows.append(row)
    width = max(row.shape[-1] for row in rows)
    return torch.cat([F.pad(row, (0, width - row.shape[-1]), value=1.0) for row in rows], dim=-2)


def _whole(shards: DataSet, row: IndexRow, maps: Sequence[str]) -> dict[str, Stored]:
    """Read a whole material in its validation size, cropped to multiples at the right and bottom."""
    size = size_of(row)
    height, width = (side // MULTIPLE * MULTIPLE for side in size)
    if size == (row.height, row.width):
        return shards.read_crop(row, Window(y=0, x=0, height=height, width=width), maps)
    whole = shards.read_whole(row, maps)
    return {name: to_stored(whole[name], MAPS[name], size=size)[:height, :width] for name in maps}

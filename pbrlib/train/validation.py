"""The validation textures of one rank, decoded once and kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pbrlib.data.batch import RawBatch
from pbrlib.data.collate import stack
from pbrlib.data.draw import Window
from pbrlib.data.shards.reader import ShardSet
from pbrlib.seeds import mix

SIDE = 1024
"""The largest side of a validation texture in pixels: the protocol of the recipe."""

MULTIPLE = 32
"""Sides are cut to a multiple of this, the coarsest stride of any network."""


@dataclass(frozen=True)
class ValidationTexture:
    """One whole texture as a batch of one, with the source it comes from."""

    source: str
    raw: RawBatch


def load_validation(
    shards: ShardSet, *, maps: Sequence[str], required: Sequence[str], rank: int, world: int
) -> tuple[ValidationTexture, ...]:
    """Reads every ``world``-th validation texture that has the required maps.

    The seed of a texture's bake derives from its id alone: one fixed protocol for every phase and run.
    """
    rows = [row for row in shards.rows if row.split == "val" and set(required) <= set(row.maps)]
    rows = [row for row in rows if min(row.height, row.width) >= MULTIPLE]
    textures = []
    for row in rows[rank::world]:
        window = Window(
            y=0,
            x=0,
            height=min(row.height, SIDE) // MULTIPLE * MULTIPLE,
            width=min(row.width, SIDE) // MULTIPLE * MULTIPLE,
        )
        crop = shards.read_crop(row, window, [name for name in maps if name in row.maps])
        raw = stack([crop], rows=[row], seeds=[mix("validation", row.id)], maps=maps)
        textures.append(ValidationTexture(row.source, raw))
    return tuple(textures)

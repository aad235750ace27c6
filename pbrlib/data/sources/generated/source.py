"""The source of generated materials: lists them, and paints each from its seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.data.materials.material import Entry, Material
from pbrlib.data.sources.generated import ceramic, compose, fabric, ground, leather, metal, stone, wood
from pbrlib.data.sources.generated.canvas import Canvas, Surface
from pbrlib.data.sources.settings import Reader, parse_flag, read_settings, split_list
from pbrlib.errors import ConfigError, DataError
from pbrlib.geometry.normals import normal_from_height
from pbrlib.geometry.occlusion import ao_from_height
from pbrlib.maps import CLASSES, DIFFUSE, GLOSS, MAPS, Stored
from pbrlib.rendering.bake import bake, draw_params
from pbrlib.rendering.bakespec import BAKE_INPUTS, BakeSpec
from pbrlib.seeds import mix

Style: TypeAlias = Callable[[Canvas], Surface]

NAME = "generated"

MIXED = "mixed"
"""The first part of the families of textures with several materials."""

STYLES: Mapping[str, Style] = {
    "ceramic/square": ceramic.square,
    "ceramic/hexagon": ceramic.hexagon,
    "ceramic/mosaic": ceramic.mosaic,
    "ceramic/painted": ceramic.painted,
    "ceramic/roof": ceramic.roof,
    "fabric/plain": fabric.plain,
    "fabric/twill": fabric.twill,
    "fabric/knit": fabric.knit,
    "fabric/plaid": fabric.plaid,
    "fabric/burlap": fabric.burlap,
    "ground/gravel": ground.gravel,
    "ground/soil": ground.soil,
    "ground/leaves": ground.leaves,
    "ground/grass": ground.grass,
    "ground/mud": ground.mud,
    "leather/pebbled": leather.pebbled,
    "leather/cracked": leather.cracked,
    "leather/stitched": leather.stitched,
    "leather/scaled": leather.scaled,
    "leather/creased": leather.creased,
    "metal/plate": metal.plate,
    "metal/brushed": metal.brushed,
    "metal/tread": metal.tread,
    "metal/hammered": metal.hammered,
    "metal/chainmail": metal.chainmail,
    "stone/brick": stone.brick,
    "stone/cobble": stone.cobble,
    "stone/ashlar": stone.ashlar,
    "stone/marble": stone.marble,
    "stone/rock": stone.rock,
    "wood/plank": wood.plank,
    "wood/floor": wood.floor,
    "wood/bark": wood.bark,
    "wood/veneer": wood.veneer,
    "wood/shingle": wood.shingle,
    "mixed/strapped": compose.strapped,
    "mixed/overgrown": compose.overgrown,
    "mixed/studded": compose.studded,
    "mixed/broken": compose.broken,
    "mixed/patched": compose.patched,
    "mixed/framed": compose.framed,
}
"""The style that paints each family."""


def paint(family: str, *, seed: int, size: int, device: torch.device | str = "cpu") -> Surface:
    """Paint a surface of a family, with its mask; equal seeds give equal layouts at every size."""
    canvas = Canvas.seeded(seed, size=size, device=device)
    surface = STYLES[family](canvas)
    name = family.partition("/")[0]
    return surface if name == MIXED else compose.with_class(surface, name)


def maps_of(surface: Surface) -> dict[str, Stored]:
    """Return the stored maps of a surface: height scaled to [0, 1], normal and AO computed from it."""
    size = surface.elevation.shape[-1]
    low, high = surface.elevation.amin(), surface.elevation.amax()
    scale = (high - low).clamp_min(1e-6)
    height = ((surface.elevation - low) / scale)[None, None]
    scale_px = float(scale) * size
    normal = normal_from_height(height, scale_px=scale_px, tileable=True)
    ao = ao_from_height(height, scale_px=scale_px, tileable=True, radius_px=max(2, size // 16))
    assert surface.mask is not None, "painted surfaces have a class"
    decoded = {
        "albedo": surface.albedo.clamp(0.015, 1.0),
        "normal": normal[0],
        "roughness": surface.roughness[None].clamp(0.03, 1.0),
        "metallic": surface.metallic[None],
        "ao": ao[0],
        "height": height[0],
    }
    stored = {name: MAPS[name].quantise(_pixels(values)) for name, values in decoded.items()}
    return stored | {"mask": surface.mask[:, :, None].cpu().numpy().astype(MAPS["mask"].dtype)}


def old_maps(maps: Mapping[str, Stored], *, seed: int) -> dict[str, Stored]:
    """Bake an old-style diffuse and gloss from the stored maps of a material."""
    decoded = {
        name: MAPS[name].decode(torch.from_numpy(maps[name].transpose(2, 0, 1).copy())[None])
        for name in BAKE_INPUTS
    }
    baked = bake(decoded, params=draw_params(torch.tensor([seed]), spec=BakeSpec()))
    return {
        DIFFUSE.name: DIFFUSE.quantise(_pixels(baked.diffuse[0])),
        GLOSS.name: GLOSS.quantise(_pixels(baked.gloss[0])),
    }


def _pixels(values: Float[Tensor, "c h w"]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = values.permute(1, 2, 0).cpu().numpy()
    return pixels


@dataclass(frozen=True)
class GeneratedSource:
    """A source of procedural materials of every class, which needs no files.

    A material depends only on ``seed``, its id and ``size``. A larger ``count`` adds entries and does not
    change the first ones. The classes alternate, so that the first seven entries have all classes.

    Attributes:
        count: Number of materials.
        size: Height and width in pixels, at least 16.
        seed: Seed of all materials.
        mixed_share: Share of textures with several materials, in [0, 1); none of the first seven is one.
        name: Name of the source in the index. Ids begin with a name that is not the default, so that two
            generated sets can be used as two sources.
        families: The families to generate; None for all.
        old: Whether materials have a baked diffuse and gloss, as real old textures do.
    """

    count: int
    size: int
    seed: int
    mixed_share: float = 0.2
    name: str = NAME
    families: tuple[str, ...] | None = None
    old: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(
                f"{self.name}: count: got {self.count}; expected 1 or more. Use a larger count."
            )
        if self.size < 16:
            raise ConfigError(
                f"{self.name}: size: got {self.size} px; expected 16 or more. Use a larger size."
            )
        if not 0.0 <= self.mixed_share < 1.0:
            raise ConfigError(
                f"{self.name}: mixed_share: got {self.mixed_share}; expected a share from 0 to below 1. For "
                "mixed textures only, give their families."
            )
        for family in self.families or ():
            if family not in STYLES:
                raise ConfigError(
                    f"{self.name}: got the family {family}; expected one of {', '.join(STYLES)}."
                )
        if self.families == ():
            raise ConfigError(f"{self.name}: families: got none. Give some, or remove the key to use all.")

    @classmethod
    def parse(cls, text: str) -> GeneratedSource:
        """Parse a source such as ``generated:count=64,size=256,seed=1``; families are joined by ``+``.

        Raises:
            ConfigError: A key is unknown, or a value cannot be read.
        """
        readers: dict[str, Reader] = {
            "count": int,
            "size": int,
            "seed": int,
            "mixed_share": float,
            "name": str,
            "families": split_list,
            "old": parse_flag,
        }
        assert readers.keys() == {field.name for field in fields(cls)}
        return cls(**read_settings(text, readers=readers, example="generated:count=64,size=256,seed=1"))

    def entries(self) -> list[Entry]:
        """List the materials in a fixed order; the materials of a family are numbered."""
        single, mixed = self._rotation()
        numbers: Counter[str] = Counter()
        entries: list[Entry] = []
        num_mixed = 0
        for position in range(self.count):
            warmed_up = position >= len(CLASSES) or not single
            if mixed and warmed_up and (not single or num_mixed < self.mixed_share * (position + 1) - 1e-9):
                family = mixed[num_mixed % len(mixed)]
                num_mixed += 1
            else:
                turn, group = divmod(position - num_mixed, len(single))
                family = single[group][turn % len(single[group])]
            stem = f"{family.replace('/', '-')}-{numbers[family]:04d}"
            name = stem if self.name == NAME else f"{self.name}-{stem}"
            entries.append(Entry(name, family, label=_label(family)))
            numbers[family] += 1
        return entries

    def _rotation(self) -> tuple[list[list[str]], list[str]]:
        """Return the single-class families by class, without empty classes, and the mixed families."""
        wanted = STYLES if self.families is None else [f for f in STYLES if f in self.families]
        by_class = [[f for f in wanted if f.startswith(f"{name}/")] for name in CLASSES]
        return [group for group in by_class if group], [f for f in wanted if f.startswith(f"{MIXED}/")]

    def stamp(self, entry: Entry) -> str:
        """Return a text of everything that determines a material."""
        return json.dumps([self.name, self.seed, self.size, self.old, entry.id])

    def load(self, entry: Entry) -> Material:
        """Paint a material, on a GPU if there is one; the last bits depend on the device.

        Raises:
            DataError: The entry has an unknown family.
        """
        if entry.family not in STYLES:
            raise DataError(
                f"{self.name}: {entry.id}: got the family {entry.family}; expected a generated family. "
                "List the entries again."
            )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        surface = paint(entry.family, seed=mix(self.seed, entry.id), size=self.size, device=device)
        maps = maps_of(surface)
        if self.old:
            maps |= old_maps(maps, seed=mix(self.seed, entry.id, "old"))
        return Material(
            id=entry.id,
            family=entry.family,
            source=self.name,
            label=_label(entry.family),
            tileable=True,
            licence="CC0-1.0",
            attribution="pbrlib generated",
            maps=maps,
        )


def _label(family: str) -> str | None:
    """Return the class of a family, or None for textures with several materials."""
    name = family.partition("/")[0]
    return None if name == MIXED else name

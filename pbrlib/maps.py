"""Defines every map in one entry: meaning, storage, file names, target and baselines.

To add a map, add an entry below. Shards, sources, audit, contact sheets, evaluation, model card and
conversion derive their lists of maps from the entries. No other module contains numbers of channels.

A map has three forms. *Stored*: a numpy array ``(H, W, C)`` in the integer type of the map, as in shards.
*Raw*: the same integers as a torch tensor ``(N, C, H, W)``, as in batches that are copied to the device.
*Decoded*: a float32 tensor ``(N, C, H, W)`` in the range of the map's encoding.

This module imports neither torch nor Ray, so that data tasks start quickly.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import numpy as np

from pbrlib.maptargets import ClassTarget, Slot, UnitTarget

if TYPE_CHECKING:
    from jaxtyping import Float, Integer
    from torch import Tensor

Stored: TypeAlias = np.ndarray[Any, np.dtype[Any]]

CLASSES = ("ceramic", "fabric", "ground", "leather", "metal", "stone", "wood")
"""The material classes; a class's id is its position."""

CLASS_COLOURS = (
    (255, 198, 138),
    (216, 27, 96),
    (139, 195, 74),
    (141, 110, 99),
    (0, 145, 233),
    (120, 144, 156),
    (229, 115, 115),
)
"""The palette of painted class masks (8-bit RGB), in the order of the classes."""

IGNORE = 255
"""The id of a pixel without a class."""

MIN_NORMAL_LENGTH = 0.01
"""A stored vector that is shorter has no direction. With 8 bits the shortest one, mid grey, has 0.007."""

MAX_COMPONENT_SUM = 2.8
"""A stored vector whose absolute components have a larger sum has no direction.

The sum is at most 1.73 for a unit vector, and 2.5 for files that store z as 1 everywhere. A larger sum is a
corner of the colour cube, mostly black or white, which fills the gaps of an atlas.
"""


class Encoding(StrEnum):
    """The meaning of the values of a map, and their range after decoding."""

    SRGB = "srgb"
    LINEAR = "linear"
    SIGNED = "signed"
    NORMAL = "normal"
    LABEL = "label"

    @property
    def range(self) -> str:
        """The range of the values of a decoded map, in words."""
        match self:
            case Encoding.SRGB:
                return "[0, 1], sRGB transfer curve"
            case Encoding.LINEAR:
                return "[0, 1], linear data"
            case Encoding.SIGNED:
                return "[-1, 1], linear data"
            case Encoding.NORMAL:
                return "unit vectors in [-1, 1], OpenGL: Y up, image rows point down"
            case Encoding.LABEL:
                return f"class ids, {IGNORE} for pixels without a class"
            case _:
                assert_never(self)


@dataclass(frozen=True)
class MapType:
    """A type of map, with all properties that sources, training, evaluation and conversion use.

    Attributes:
        name: The name of the column in shards, the key in batches and the prefix of metrics.
        channels: The number of channels.
        encoding: The meaning of the values.
        dtype: The integer type in shards.
        fill: The stored value of a map that a material does not have: one number, or one per channel.
        file: The stem of the map's file in a folder of materials; None if folders never contain the map.
        aliases: Other stems of such a file, in lower case without separators, the best first.
        inverted_aliases: Stems of a file with inverted values: gloss, or a normal with green pointing down.
        may_be_constant: Whether the audit accepts a map that has the same value everywhere.
        target: How a network learns the map; None for a map that is only an input.
        slot: Where a conversion to True PBR writes the prediction; a conversion needs the network of each map
            with a slot. None for a map that a conversion does not write.
    """

    name: str
    _: KW_ONLY
    channels: int
    encoding: Encoding
    dtype: str = "uint8"
    fill: int | tuple[int, ...] = 0
    file: str | None = None
    aliases: tuple[str, ...] = ()
    inverted_aliases: tuple[str, ...] = ()
    may_be_constant: bool = False
    target: UnitTarget | ClassTarget | None = None
    slot: Slot | None = None

    @property
    def maximum(self) -> int:
        """The largest stored integer."""
        return int(np.iinfo(self.dtype).max)

    @property
    def fills(self) -> tuple[int, ...]:
        """The fill value of each channel."""
        return self.fill if isinstance(self.fill, tuple) else (self.fill,) * self.channels

    def quantise(self, values: np.ndarray[Any, np.dtype[np.floating[Any]]]) -> Stored:
        """Convert decoded values ``(H, W, C)`` to stored integers, rounded to nearest and clipped."""
        match self.encoding:
            case Encoding.SRGB | Encoding.LINEAR:
                unit = values
            case Encoding.SIGNED | Encoding.NORMAL:
                unit = values * 0.5 + 0.5
            case Encoding.LABEL:
                raise TypeError("labels are integers already")
            case _:
                assert_never(self.encoding)
        stored: Stored = np.rint(np.clip(unit, 0.0, 1.0) * self.maximum).astype(self.dtype)
        return stored

    def decode(self, raw: Integer[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Convert raw integers to floats in the range of the encoding; normals get unit length.

        A pixel of a normal map that has no direction (:data:`MIN_NORMAL_LENGTH`, :data:`MAX_COMPONENT_SUM`)
        becomes the flat normal (0, 0, 1).
        """
        match self.encoding:
            case Encoding.SRGB | Encoding.LINEAR:
                return raw.float() / self.maximum
            case Encoding.SIGNED:
                return raw.float() * (2.0 / self.maximum) - 1.0
            case Encoding.NORMAL:
                vectors = raw.float() * (2.0 / self.maximum) - 1.0
                # torch's norm over a dimension that is not the last takes fifty times as long on a CPU.
                length = vectors.square().sum(dim=1, keepdim=True).sqrt()
                absent = (length < MIN_NORMAL_LENGTH) | (
                    vectors.abs().sum(dim=1, keepdim=True) > MAX_COMPONENT_SUM
                )
                unit = (vectors / length.clamp_min(MIN_NORMAL_LENGTH)).masked_fill(absent, 0.0)
                unit[:, 2:].masked_fill_(absent, 1.0)
                return unit
            case Encoding.LABEL:
                raise TypeError("labels stay integers: use .long()")
            case _:
                assert_never(self.encoding)


# The diffuse of an old texture, which has light painted in, and the uncalibrated alpha of its normal map.
DIFFUSE = MapType("diffuse", channels=3, encoding=Encoding.SRGB, file="diffuse")
GLOSS = MapType("gloss", channels=1, encoding=Encoding.LINEAR, may_be_constant=True)
ALBEDO = MapType(
    "albedo",
    channels=3,
    encoding=Encoding.SRGB,
    file="albedo",
    aliases=(
        "basecolor",
        "basecolour",
        "color",
        "colour",
        "diff",
        "col",
        "alb",
        "basemap",
        "albedotransparency",
    ),
    target=UnitTarget(baselines=("diffuse", "diffuse x fitted gain")),
    slot=Slot(""),
)
NORMAL = MapType(
    "normal",
    channels=3,
    encoding=Encoding.NORMAL,
    fill=(128, 128, 255),
    file="normal",
    aliases=("normalgl", "normalopengl", "normalogl", "norgl", "nrmgl", "normals", "norm", "nor", "nrm"),
    inverted_aliases=("normaldx", "normaldirectx", "nordx", "nrmdx"),
)
ROUGHNESS = MapType(
    "roughness",
    channels=1,
    encoding=Encoding.LINEAR,
    fill=180,  # a material without a roughness map is baked with medium roughness, since 0 would be a mirror
    file="roughness",
    aliases=("rough", "rgh"),
    inverted_aliases=("glossiness", "gloss", "smoothness"),
    target=UnitTarget(baselines=("mean of the true class", "1 - gloss")),
    slot=Slot("_rmaos", 0),
)
METALLIC = MapType(
    "metallic",
    channels=1,
    encoding=Encoding.LINEAR,
    file="metallic",
    aliases=("metalness", "metallicity", "metal"),
    may_be_constant=True,
    target=UnitTarget(baselines=("0", "true class is metal")),
    slot=Slot("_rmaos", 1),
)
AO = MapType(
    "ao",
    channels=1,
    encoding=Encoding.LINEAR,
    fill=255,
    file="ao",
    aliases=("ambientocclusion", "occlusion", "occ"),
    target=UnitTarget(baselines=("1", "training mean"), ignores_seams=True),
    slot=Slot("_rmaos", 2),
)
HEIGHT = MapType(
    "height",
    channels=1,
    encoding=Encoding.LINEAR,
    dtype="uint16",
    file="height",
    aliases=("displacement", "disp", "bump"),
    target=UnitTarget(baselines=("Poisson",), relative=True, ignores_seams=True),
    slot=Slot("_p"),
)
MASK = MapType(
    "mask",
    channels=1,
    encoding=Encoding.LABEL,
    fill=IGNORE,
    file="mask",
    may_be_constant=True,
    target=ClassTarget(baselines=("majority class", "nearest class colour")),
)
# Coarse height (Poisson) and mean curvature, computed from the normals of a whole texture.
RELIEF = MapType(
    "relief", channels=2, encoding=Encoding.SIGNED, dtype="uint16", fill=32768, may_be_constant=True
)

MAPS = {
    kind.name: kind
    for kind in (DIFFUSE, GLOSS, ALBEDO, NORMAL, ROUGHNESS, METALLIC, AO, HEIGHT, MASK, RELIEF)
}
"""Every map by name, in the order of the columns of a shard; a new map is added at the end."""

PACKED = {
    **dict.fromkeys(("arm", "orm", "aorm", "occlusionroughnessmetallic"), (AO, ROUGHNESS, METALLIC)),
    **dict.fromkeys(("rma", "rmaos"), (ROUGHNESS, METALLIC, AO)),
    **dict.fromkeys(("mra", "mrao"), (METALLIC, ROUGHNESS, AO)),
    "metallicroughness": (None, ROUGHNESS, METALLIC),
    "ordp": (AO, ROUGHNESS, HEIGHT),
}
"""Stems of files with one map per channel, and the map of each channel; None for an unused channel."""

SEAM_MAPS = tuple(name for name, kind in MAPS.items() if kind.encoding in (Encoding.SRGB, Encoding.NORMAL))
"""The maps whose borders are tested for seams; maps of scalars are often flat there and show nothing."""

TARGETS = {name: kind.target for name, kind in MAPS.items() if isinstance(kind.target, UnitTarget)}
"""The target of each map that has its own network, by the map's name, which is also the network's role."""

TRUE_PBR = {name: kind.slot for name, kind in MAPS.items() if kind.slot is not None}
"""The slot of each map that a conversion to True PBR predicts; a conversion needs exactly these networks."""


def class_id(name: str) -> int:
    """Return the id of a class by its name; raises ValueError for an unknown name."""
    return CLASSES.index(name)

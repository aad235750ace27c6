"""Every map, one entry each: meaning, storage, files, targets, baselines; no other module knows a channel.

A map is added by its entry below. What else asks "which maps ..." (shards, sources, audit, contact sheets,
evaluation, model card, conversion) derives the answer from the entries.

Three forms of one map exist. *Stored*: numpy ``(H, W, C)`` in the integer type of the map, as shards
hold it. *Raw*: the same integers as a torch tensor ``(N, C, H, W)``, as batches travel to the device.
*Decoded*: float32 ``(N, C, H, W)`` in the range given by the map's encoding.

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

SHORTEST_NORMAL = 0.01
"""A stored vector below this length has no direction: 8 bits hold no 0, and mid grey is 0.007 long."""

LARGEST_SUM = 2.8
"""The magnitudes of a unit vector's components sum to at most 1.73, and to 2.5 where z is stored as 1
throughout: a corner of the cube, above all black and white, is a gap of an atlas."""


class Encoding(StrEnum):
    """What the numbers of a map mean, and the range they have once decoded."""

    SRGB = "srgb"
    LINEAR = "linear"
    SIGNED = "signed"
    NORMAL = "normal"
    LABEL = "label"

    @property
    def range(self) -> str:
        """The values of a decoded map in words."""
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
                return f"class ids, {IGNORE} where there is none"
            case _:
                assert_never(self)


@dataclass(frozen=True)
class MapType:
    """One kind of map, with everything that sources, training, evaluation and conversion derive from it.

    Attributes:
        name: Of the column in shards, the key in batches, the prefix of metrics.
        channels: Their number.
        encoding: What the numbers mean.
        dtype: The integer type in shards.
        fill: The stored value that stands for a map that a material lacks, for all channels or for each.
        file: The stem of its file in a folder of materials; None where such a folder never holds it.
        also: What else such a file is called, in lower case without separators, best first.
        opposite: The same for a file that holds the opposite: gloss, or a normal whose green points down.
        may_be_constant: A map that is the same everywhere is no finding of the audit.
        target: How a network learns it; None of a map that only goes in.
        slot: Where a conversion to True PBR writes the prediction, which makes the map's network one that it
            needs; None of a map that it does not write.
    """

    name: str
    _: KW_ONLY
    channels: int
    encoding: Encoding
    dtype: str = "uint8"
    fill: int | tuple[int, ...] = 0
    file: str | None = None
    also: tuple[str, ...] = ()
    opposite: tuple[str, ...] = ()
    may_be_constant: bool = False
    target: UnitTarget | ClassTarget | None = None
    slot: Slot | None = None

    @property
    def maximum(self) -> int:
        """The largest stored integer."""
        return int(np.iinfo(self.dtype).max)

    @property
    def fills(self) -> tuple[int, ...]:
        """The fill of each channel."""
        return self.fill if isinstance(self.fill, tuple) else (self.fill,) * self.channels

    def quantise(self, values: np.ndarray[Any, np.dtype[np.floating[Any]]]) -> Stored:
        """Decoded values ``(H, W, C)`` to stored integers, rounded to nearest and clipped."""
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
        """Raw integers to floats in the range of the encoding; normals are renormalised to unit length.

        A pixel of a normal map without a direction (:data:`SHORTEST_NORMAL`, :data:`LARGEST_SUM`) is flat.
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
                absent = (length < SHORTEST_NORMAL) | (vectors.abs().sum(dim=1, keepdim=True) > LARGEST_SUM)
                unit = (vectors / length.clamp_min(SHORTEST_NORMAL)).masked_fill(absent, 0.0)
                unit[:, 2:].masked_fill_(absent, 1.0)
                return unit
            case Encoding.LABEL:
                raise TypeError("labels stay integers: use .long()")
            case _:
                assert_never(self.encoding)


# The old texture, with light painted in, and the alpha of its normal map, which is uncalibrated.
DIFFUSE = MapType("diffuse", channels=3, encoding=Encoding.SRGB, file="diffuse")
GLOSS = MapType("gloss", channels=1, encoding=Encoding.LINEAR, may_be_constant=True)
ALBEDO = MapType(
    "albedo",
    channels=3,
    encoding=Encoding.SRGB,
    file="albedo",
    also=(
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
    also=("normalgl", "normalopengl", "normalogl", "norgl", "nrmgl", "normals", "norm", "nor", "nrm"),
    opposite=("normaldx", "normaldirectx", "nordx", "nrmdx"),
)
ROUGHNESS = MapType(
    "roughness",
    channels=1,
    encoding=Encoding.LINEAR,
    fill=180,  # a material whose roughness is unknown is baked mid-rough: as 0 it would shine like a mirror
    file="roughness",
    also=("rough", "rgh"),
    opposite=("glossiness", "gloss", "smoothness"),
    target=UnitTarget(baselines=("mean of the true class", "1 - gloss")),
    slot=Slot("_rmaos", 0),
)
METALLIC = MapType(
    "metallic",
    channels=1,
    encoding=Encoding.LINEAR,
    file="metallic",
    also=("metalness", "metallicity", "metal"),
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
    also=("ambientocclusion", "occlusion", "occ"),
    target=UnitTarget(baselines=("1", "training mean"), off_seams=True),
    slot=Slot("_rmaos", 2),
)
HEIGHT = MapType(
    "height",
    channels=1,
    encoding=Encoding.LINEAR,
    dtype="uint16",
    file="height",
    also=("displacement", "disp", "bump"),
    target=UnitTarget(baselines=("Poisson",), relative=True, off_seams=True),
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
# Poisson-coarse height and mean curvature, computed from the normal of the whole texture.
RELIEF = MapType(
    "relief", channels=2, encoding=Encoding.SIGNED, dtype="uint16", fill=32768, may_be_constant=True
)

MAPS = {
    kind.name: kind
    for kind in (DIFFUSE, GLOSS, ALBEDO, NORMAL, ROUGHNESS, METALLIC, AO, HEIGHT, MASK, RELIEF)
}
"""Every map by name, in the order of the columns of a shard, which a new map continues at the end."""

PACKED = {
    **dict.fromkeys(("arm", "orm", "aorm", "occlusionroughnessmetallic"), (AO, ROUGHNESS, METALLIC)),
    **dict.fromkeys(("rma", "rmaos"), (ROUGHNESS, METALLIC, AO)),
    **dict.fromkeys(("mra", "mrao"), (METALLIC, ROUGHNESS, AO)),
    "metallicroughness": (None, ROUGHNESS, METALLIC),
    "ordp": (AO, ROUGHNESS, HEIGHT),
}
"""Names of files that hold a map in each channel, and those maps; None where a channel holds none."""

BORDERS = tuple(name for name, kind in MAPS.items() if kind.encoding in (Encoding.SRGB, Encoding.NORMAL))
"""The maps whose borders show whether a material tiles: of a number the border may well be flat."""

TARGETS = {name: kind.target for name, kind in MAPS.items() if isinstance(kind.target, UnitTarget)}
"""How each map with a network of its own is learned, by name, which is the network's role too."""

TRUE_PBR = {name: kind.slot for name, kind in MAPS.items() if kind.slot is not None}
"""Where True PBR stores each map that a conversion predicts; it needs the networks of these and no other."""


def class_id(name: str) -> int:
    """The id of a class by name; raises ValueError for an unknown one."""
    return CLASSES.index(name)

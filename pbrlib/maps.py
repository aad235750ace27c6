"""The vocabulary of maps: channels, storage, value range and meaning; nobody else knows a channel number.

Three forms of one map exist. *Stored*: numpy ``(H, W, C)`` in the integer type of the map, as shards
hold it. *Raw*: the same integers as a torch tensor ``(N, C, H, W)``, as batches travel to the device.
*Decoded*: float32 ``(N, C, H, W)`` in the range given by the map's encoding.

This module imports neither torch nor Ray, so that data tasks start quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import numpy as np

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


class Encoding(StrEnum):
    """What the numbers of a map mean, and the range they have once decoded."""

    SRGB = "srgb"  # [0, 1], sRGB transfer curve
    LINEAR = "linear"  # [0, 1], linear data
    SIGNED = "signed"  # [-1, 1], linear data
    NORMAL = "normal"  # unit vectors, OpenGL (Y up, image rows point down)
    LABEL = "label"  # class ids, 255 = ignore


@dataclass(frozen=True)
class MapType:
    """One kind of map: its name, number of channels, integer type in shards and encoding."""

    name: str
    channels: int
    encoding: Encoding
    dtype: str = "uint8"
    fill: int = 0

    @property
    def maximum(self) -> int:
        """The largest stored integer."""
        return int(np.iinfo(self.dtype).max)

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
        """Raw integers to floats in the range of the encoding; normals are renormalised to unit length."""
        match self.encoding:
            case Encoding.SRGB | Encoding.LINEAR:
                return raw.float() / self.maximum
            case Encoding.SIGNED:
                return raw.float() * (2.0 / self.maximum) - 1.0
            case Encoding.NORMAL:
                vectors = raw.float() * (2.0 / self.maximum) - 1.0
                # torch's norm over a dimension that is not the last takes fifty times as long on a CPU.
                length = vectors.square().sum(dim=1, keepdim=True).sqrt()
                unit: Tensor = vectors / length.clamp_min(1e-6)
                return unit
            case Encoding.LABEL:
                raise TypeError("labels stay integers: use .long()")
            case _:
                assert_never(self.encoding)


DIFFUSE = MapType("diffuse", 3, Encoding.SRGB)  # old texture, light painted in
GLOSS = MapType("gloss", 1, Encoding.LINEAR)  # alpha of the old normal map, uncalibrated
ALBEDO = MapType("albedo", 3, Encoding.SRGB)
NORMAL = MapType("normal", 3, Encoding.NORMAL, fill=128)
# A material whose roughness is unknown is baked mid-rough: as 0 it would shine like a mirror.
ROUGHNESS = MapType("roughness", 1, Encoding.LINEAR, fill=180)
METALLIC = MapType("metallic", 1, Encoding.LINEAR)
AO = MapType("ao", 1, Encoding.LINEAR, fill=255)
HEIGHT = MapType("height", 1, Encoding.LINEAR, "uint16")
MASK = MapType("mask", 1, Encoding.LABEL, fill=IGNORE)
RELIEF = MapType("relief", 2, Encoding.SIGNED, "uint16", fill=32768)  # Poisson-coarse height, mean curvature

MAPS = {m.name: m for m in (DIFFUSE, GLOSS, ALBEDO, NORMAL, ROUGHNESS, METALLIC, AO, HEIGHT, MASK, RELIEF)}
"""Every map by name, in the order of the columns of a shard."""

SCALAR_TARGETS = ("roughness", "metallic", "height", "ao")
"""The maps that have a network each (families M and P)."""

UNIT_TARGETS = ("albedo", *SCALAR_TARGETS)
"""The maps predicted through a sigmoid, all in [0, 1]."""


def class_id(name: str) -> int:
    """The id of a class by name; raises ValueError for an unknown one."""
    return CLASSES.index(name)

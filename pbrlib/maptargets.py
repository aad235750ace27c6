"""What the entry of a map may say of its network: how the map is learned, scored and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

MapBaseline: TypeAlias = Literal[
    "0",
    "1",
    "diffuse",
    "diffuse x fitted gain",
    "1 - gloss",
    "Poisson",
    "training mean",
    "mean of the true class",
    "true class is metal",
]
"""Answers to a map that take no network; `pbrlib.evaluate.baselines` computes them."""

ClassBaseline: TypeAlias = Literal["majority class", "nearest class colour"]
"""Answers to the class of each pixel that take no network."""


@dataclass(frozen=True, kw_only=True)
class UnitTarget:
    """A map in [0, 1] that a network of its own predicts through a sigmoid; the role has the map's name.

    Attributes:
        baselines: The answers without a network that it is measured beside, in the order of the tables.
        relative: Its values have no absolute scale, so errors are also measured after the scale and shift
            that bring the prediction nearest to the truth.
        off_seams: No loss term looks at the seams of a mosaic, since a step between two textures belongs to
            neither.
    """

    baselines: tuple[MapBaseline, ...] = ()
    relative: bool = False
    off_seams: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassTarget:
    """Class ids that the segmentation predicts; ``baselines`` are measured beside it."""

    baselines: tuple[ClassBaseline, ...] = ()


@dataclass(frozen=True)
class Slot:
    """Where True PBR stores a map: the ending of the DDS file's name, and the map's first channel there."""

    ending: str
    channel: int = 0

"""Types for the entry of a map: how a network learns the map, its baselines, and where it is written."""

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
"""Trivial predictions of a map without a network; `pbrlib.evaluate.baselines` computes them."""

ClassBaseline: TypeAlias = Literal["majority class", "nearest class colour"]
"""Trivial predictions of the class of each pixel without a network."""


@dataclass(frozen=True, kw_only=True)
class UnitTarget:
    """A map in [0, 1] that has its own network with a sigmoid output; the role has the name of the map.

    Attributes:
        baselines: The baselines that the network is compared with, in the order of the tables.
        relative: Whether the values have no absolute scale. Errors are then also measured after a scale and a
            shift fit the prediction to the truth.
        ignores_seams: Whether loss terms skip the seams of a mosaic, since the step between two textures
            belongs to neither texture.
    """

    baselines: tuple[MapBaseline, ...] = ()
    relative: bool = False
    ignores_seams: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassTarget:
    """Class ids that a segmentation network predicts; the network is compared with ``baselines``."""

    baselines: tuple[ClassBaseline, ...] = ()


@dataclass(frozen=True)
class Slot:
    """Where True PBR stores a map: the ending of the name of the DDS file, and the first channel in it."""

    ending: str
    channel: int = 0

"""Decides which draws become mosaics of several textures, and in which layout.

This module computes the plan only; :mod:`pbrlib.data.augment.assembly` composes the pixels.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from pbrlib.data.draws.drawspec import MosaicSpec
from pbrlib.seeds import mix


class Layout(IntEnum):
    """The division of a crop into the parts of a draw; plans store these numbers."""

    SINGLE = 0
    SIDE_BY_SIDE = 1
    STACKED = 2
    QUARTERS = 3

    @property
    def parts(self) -> int:
        """The number of parts of a crop."""
        return (1, 2, 2, 4)[self]


def draw_layouts(
    spec: MosaicSpec, own: np.ndarray, *, whole: np.ndarray, epochs: int, seed: int
) -> np.ndarray:
    """Draw a layout for every draw of a phase; each epoch has the declared shares, rounded to draws.

    Args:
        spec: The shares.
        own: Which draws belong to the sources of the mosaics, in order; epochs are equally long. Shape (n,).
        whole: Which draws must not become mosaics; the shares include them.
        epochs: Number of epochs.
        seed: The seed of the choice.
    """
    drawn = [
        _layouts_of_epoch(
            spec, own=part, free=part & ~kept, rng=np.random.default_rng(mix(seed, "mosaics", n))
        )
        for n, (part, kept) in enumerate(zip(np.split(own, epochs), np.split(whole, epochs), strict=True))
    ]
    return np.concatenate(drawn)


def _layouts_of_epoch(
    spec: MosaicSpec, *, own: np.ndarray, free: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    layouts = np.zeros(len(own), dtype=np.int8)
    two, four = (round(share * int(own.sum())) for share in (spec.two, spec.four))
    chosen = rng.permutation(np.flatnonzero(free))
    halves = chosen[:two]
    layouts[halves] = np.array([Layout.SIDE_BY_SIDE, Layout.STACKED])[rng.integers(2, size=len(halves))]
    layouts[chosen[two : two + four]] = Layout.QUARTERS
    return layouts

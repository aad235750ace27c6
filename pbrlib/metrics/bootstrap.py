"""How sure a mean over textures is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of one value a texture, with its percentile bootstrap interval (Efron 1979).

    Give the differences of two methods, texture by texture, for a paired comparison. Raises ValueError
    without values.
    """
    if len(values) == 0:
        raise ValueError("a bootstrap needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(array[draws].mean(axis=1), (tail, 1.0 - tail))
    return Interval(float(array.mean()), float(low), float(high))

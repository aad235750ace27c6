"""Bootstrap confidence intervals of means over textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the mean of one value per texture with its percentile bootstrap interval (Efron 1979).

    For a paired comparison, pass the differences of two methods per texture. Raises ValueError for an empty
    sequence.
    """
    if len(values) == 0:
        raise ValueError("values: got none; expected at least one value for a bootstrap")
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(array[draws].mean(axis=1), (tail, 1.0 - tail))
    return Interval(float(array.mean()), float(low), float(high))

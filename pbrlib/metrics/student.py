"""Student's t confidence intervals of means over a few repeats."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pbrlib.metrics.bootstrap import Interval

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""The 0.975 quantiles of Student's t for 1, 2, ... degrees of freedom."""


def student_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its 95 % Student's t interval, which is infinite for a single value.

    A bootstrap of a few repeats would give a too narrow interval. Raises ValueError for an empty sequence.
    """
    if not values:
        raise ValueError("values: got none; expected at least one value for an interval")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Interval(mean, -math.inf, math.inf)
    half = _quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def _quantile(freedom: int) -> float:
    """Return the quantile from the table, or beyond it from the Cornish-Fisher expansion about the normal."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)

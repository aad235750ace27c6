"""How sure a mean over a few repeats is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pbrlib.metrics.bootstrap import Interval

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""The 0.975 quantile of Student's t with 1, 2 ... degrees of freedom."""


def student_interval(values: Sequence[float]) -> Interval:
    """The mean with its 95 % interval after Student; one value alone has an infinite one.

    Resampling a handful of repeats would say that they are surer than they are. Raises ValueError without
    values.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Interval(mean, -math.inf, math.inf)
    half = _quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def _quantile(freedom: int) -> float:
    """From the table, then by the first terms of its expansion about the normal (Cornish and Fisher)."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)

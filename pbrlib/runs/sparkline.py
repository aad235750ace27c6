"""Draws a curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
GAP = "·"
"""The character for NaN."""


def sparkline(values: Sequence[float], *, width: int = 60) -> str:
    """Draw at most ``width`` bars of the means of neighbouring values, from the smallest to the largest."""
    count = min(width, len(values))
    bins = [
        values[number * len(values) // count : (number + 1) * len(values) // count] for number in range(count)
    ]
    means = [_mean(part) for part in bins]
    known = [value for value in means if math.isfinite(value)]
    if not known:
        return GAP * count
    low, span = min(known), max(known) - min(known)
    return "".join(
        _bar((value - low) / span if span else 0.5) if math.isfinite(value) else GAP for value in means
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _bar(height: float) -> str:
    return BARS[min(int(height * len(BARS)), len(BARS) - 1)]

"""Compares networks with baselines: means over textures with bootstrap intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from pbrlib.evaluate.scores import NET, SEGMENTATION, Scores
from pbrlib.maps import CLASSES
from pbrlib.metrics.bootstrap import Interval, bootstrap_interval

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

MIN_TEXTURES = 5
"""Minimum number of textures for `Verdict.BETTER`; with fewer, bootstrap intervals are too narrow."""

_RESAMPLES = 2000
_TAIL = 0.025


class Verdict(StrEnum):
    """The result of comparing the networks with the baselines in one metric."""

    BETTER = "better than all"  # every 95 % interval of a difference excludes 0
    BETTER_ON_AVERAGE = "better on average"  # better than every baseline, but some interval includes 0
    NOT_BETTER = "not better"  # at least one baseline is as good or better
    NO_BASELINE = "no baseline"

    @classmethod
    def _missing_(cls, value: object) -> Verdict | None:
        """Return the verdict of a value in an ``evaluation.json`` of an older version."""
        return cls.BETTER_ON_AVERAGE if value == "ahead of all, unsure" else None


@dataclass(frozen=True)
class Comparison:
    """The comparison of one metric of one map.

    Attributes:
        map: Name of the map, or ``segmentation``.
        metric: E.g. ``rmse``, ``miou``, ``iou/wood``.
        num_textures: Number of textures for which the networks have the metric.
        methods: Mean over textures by method, including ``net``; for segmentation, over all pixels.
        differences: Networks minus baseline on the common textures, by baseline.
    """

    map: str
    metric: str
    num_textures: int
    methods: Mapping[str, Interval]
    differences: Mapping[str, Interval]

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is better."""
        return higher_is_better(self.metric)

    @property
    def best_baseline(self) -> str | None:
        """The strongest baseline, with the smallest lead of the networks."""
        if not self.differences:
            return None
        return min(self.differences, key=lambda name: self._lead(self.differences[name])[0])

    @property
    def beaten_by(self) -> tuple[str, ...]:
        """The baselines that are at least as good as the networks."""
        return tuple(name for name, found in self.differences.items() if self._lead(found)[0] <= 0)

    @property
    def verdict(self) -> Verdict:
        """The verdict against all baselines."""
        if not self.differences:
            return Verdict.NO_BASELINE
        if self.beaten_by:
            return Verdict.NOT_BETTER
        lower_bound = min(self._lead(found)[1] for found in self.differences.values())
        return (
            Verdict.BETTER
            if lower_bound > 0 and self.num_textures >= MIN_TEXTURES
            else Verdict.BETTER_ON_AVERAGE
        )

    def _lead(self, difference: Interval) -> tuple[float, float]:
        """Return the lead of the networks: its mean, and the lower bound of its interval."""
        if self.higher_is_better:
            return difference.mean, difference.low
        return -difference.mean, -difference.high


def higher_is_better(metric: str) -> bool:
    """Return whether a larger value of a metric is better; for errors and distances a smaller one is."""
    return metric.startswith(("ssim", "miou", "iou"))


def compare(scores: Scores) -> list[Comparison]:
    """Compare every metric of every predicted map, in the order in which they were added."""
    found = [
        _compare_metric(name, metric, methods)
        for name, metrics in scores.values.items()
        for metric, methods in metrics.items()
        if NET in methods
    ]
    return found + list(_compare_classes(scores.confusions))


def _compare_metric(name: str, metric: str, methods: Mapping[str, Mapping[str, float]]) -> Comparison:
    net = methods[NET]
    differences = {}
    for method, values in methods.items():
        common = [sample for sample in net if sample in values]
        if method != NET and common:
            differences[method] = bootstrap_interval([net[sample] - values[sample] for sample in common])
    intervals = {method: bootstrap_interval(list(values.values())) for method, values in methods.items()}
    return Comparison(name, metric, len(net), intervals, differences)


def _compare_classes(confusions: Mapping[str, Mapping[str, Int64[Tensor, "k k"]]]) -> Iterator[Comparison]:
    """Compare mean IoU and class IoUs from one matrix per method; the bootstrap resamples textures."""
    if NET not in confusions:
        return
    matrices = {
        method: torch.stack([own[sample] for sample in confusions[NET]]).double().numpy()
        for method, own in confusions.items()
    }
    num = len(matrices[NET])
    weights = np.random.default_rng(0).multinomial(num, np.full(num, 1.0 / num), size=_RESAMPLES)
    exact = {method: iou(own.sum(axis=0)[None]) for method, own in matrices.items()}
    drawn = {method: iou(np.tensordot(weights, own, axes=1)) for method, own in matrices.items()}
    present = ~np.isnan(exact[NET][0])
    figures: dict[str, Callable[[Floats], Floats]] = {"miou": lambda ious: np.nanmean(ious, axis=1)}
    for number, name in enumerate(CLASSES):
        if present[number]:
            figures[f"iou/{name}"] = lambda ious, number=number: ious[:, number]  # type: ignore[misc]
    for metric, figure in figures.items():
        values = {method: (float(figure(exact[method])[0]), figure(drawn[method])) for method in matrices}
        net, net_drawn = values[NET]
        yield Comparison(
            SEGMENTATION,
            metric,
            num,
            {method: _interval(value, resampled) for method, (value, resampled) in values.items()},
            {
                method: _interval(net - value, net_drawn - resampled)
                for method, (value, resampled) in values.items()
                if method != NET
            },
        )


def iou(matrices: Floats) -> Floats:
    """Compute the IoU by class ``(n, k)`` of matrices ``(n, k, k)``; NaN for a class without true pixels."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    true, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    found: Floats = np.where(true > 0, hits / np.maximum(true + predicted - hits, 1.0), np.nan)
    return found


def _interval(value: float, resampled: Floats) -> Interval:
    low, high = np.nanquantile(resampled, (_TAIL, 1.0 - _TAIL))
    return Interval(value, float(low), float(high))

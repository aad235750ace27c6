"""Read our gauges from a metrics endpoint."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Series:
    """A gauge with its labels, without those that Ray puts to every one."""

    name: str
    labels: frozenset[tuple[str, str]]


OURS = ("curriculum", "phase", "run", "term", "metric")


def scrape(port: int) -> dict[Series, float]:
    """The gauges of ``pbr`` that a node serves now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        Series(one.name, frozenset((key, one.labels[key]) for key in OURS if key in one.labels)): one.value
        for family in families
        if family.name.startswith("ray_pbr_")
        for one in family.samples
    }


def series(name: str, **labels: str) -> Series:
    return Series(name, frozenset(labels.items()))

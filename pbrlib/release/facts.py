"""Builds the data of ``model.json``: conventions, networks, textures and versions."""

from __future__ import annotations

import csv
import importlib.metadata
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pbrlib.data.shards.dataset import DataSet
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.manifest import COLOUR_SPACE, NORMAL_CONVENTION
from pbrlib.inference.modelfile import DataFacts, ModelFile, ReleasedNetwork, layout_of
from pbrlib.inference.trained import Trained
from pbrlib.maps import CLASSES, MAPS, TARGETS
from pbrlib.models.roles import without_pretrained
from pbrlib.models.segformer import normalisation

_LIBRARIES = ("pbrlib", "torch", "transformers")

_ORDER = ("segmentation", *TARGETS)
"""The roles in the order in which the networks run."""


def model_file(found: Sequence[Trained], *, shards: DataSet) -> ModelFile:
    """Build the content of ``model.json`` for some networks and their training data."""
    return ModelFile(
        conventions=conventions(),
        networks={
            network.role: _released(network)
            for network in sorted(found, key=lambda network: _ORDER.index(network.role))
        },
        data=DataFacts(fingerprint=shards.fingerprint, textures=count_textures(shards.rows)),
        versions={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )


def conventions() -> dict[str, Any]:
    """Describe the inputs and outputs of the networks."""
    mean, std = normalisation()
    return {
        "classes": list(CLASSES),
        "colour_space": COLOUR_SPACE,
        "normal": NORMAL_CONVENTION,
        "maps": {
            name: {
                "channels": kind.channels,
                "encoding": kind.encoding.value,
                "range": kind.encoding.range,
            }
            for name, kind in MAPS.items()
        },
        "segmentation": {
            "input": "diffuse (or albedo) red, green, blue, then normal x, y, z; sides multiples of 32",
            "normalisation": "(input - mean) / std, by channel",
            "mean": list(mean),
            "std": list(std),
            "output": "class logits at a quarter of the sides",
        },
    }


def count_textures(rows: Iterable[IndexRow]) -> dict[str, dict[str, int]]:
    """Count textures by source and split, both sorted."""
    counts: dict[str, dict[str, int]] = {}
    for source, split in sorted((row.source, row.split) for row in rows):
        of_source = counts.setdefault(source, {})
        of_source[split] = of_source.get(split, 0) + 1
    return counts


def attributions(rows: Sequence[IndexRow]) -> str:
    """Return a CSV table with the licence and the authors of every texture."""
    fields = ("id", "source", "split", "licence", "attribution")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(fields)
    writer.writerows([getattr(row, field) for field in fields] for row in rows)
    return text.getvalue()


def licences(rows: Iterable[IndexRow]) -> Mapping[str, int]:
    """Count textures by licence, sorted; textures without a licence count as ``unknown``."""
    counts: dict[str, int] = {}
    for name in sorted(" ".join(row.licence.split()) or "unknown" for row in rows):
        counts[name] = counts.get(name, 0) + 1
    return counts


def _released(network: Trained) -> ReleasedNetwork:
    return ReleasedNetwork(
        network=without_pretrained(network.declared),
        file="segformer" if layout_of(network.declared) == "transformers" else f"{network.role}.safetensors",
        curriculum=network.curriculum,
        phase=network.phase,
        fingerprint=network.fingerprint,
        step=network.step,
        metrics=network.metrics,
        frozen=network.frozen,
    )

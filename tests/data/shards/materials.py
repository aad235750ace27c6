"""Small materials and shard sets for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pbrlib.data.materials.material import Material
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.manifest import Manifest
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.split import split_of
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.maps import CLASSES, MAPS, Stored


def random_map(name: str, size: tuple[int, int], rng: np.random.Generator) -> Stored:
    kind = MAPS[name]
    largest = len(CLASSES) - 1 if name == "mask" else kind.maximum
    return rng.integers(0, largest, (*size, kind.channels), dtype=kind.dtype, endpoint=True)


def material(
    number: int,
    *,
    size: tuple[int, int] = (300, 280),
    maps: Iterable[str] = ("albedo", "normal", "height"),
    label: str | None = "wood",
    tileable: bool = True,
) -> Material:
    rng = np.random.default_rng(number)
    return Material(
        id=f"m{number}",
        family=f"family{number}",
        source="test",
        label=label,
        tileable=tileable,
        licence="CC0-1.0",
        attribution="nobody",
        maps={name: random_map(name, size, rng) for name in maps},
    )


def split_for(one: Material) -> str:
    return split_of(one.family, val_share=0.5)


def add_version(root: Path, groups: list[list[Material]], previous: Manifest | None = None) -> Manifest:
    """Publish a version with one shard per group."""
    version = 1 if previous is None else previous.version + 1
    written = [
        write_shard(root / shard_name(version=version, ordinal=n), group, split_for=split_for)
        for n, group in enumerate(groups)
    ]
    infos, rows = zip(*written, strict=True)
    return publish(root, shards=infos, rows=rows, previous=previous)


def make_set(root: Path, *groups: list[Material]) -> ShardSet:
    add_version(root, list(groups))
    return ShardSet.open(root)


def index_row(*, size: tuple[int, int], tileable: bool = True, maps: tuple[str, ...] = ()) -> IndexRow:
    return IndexRow(
        id="m",
        source="test",
        family="f",
        split="train",
        label=None,
        shard=0,
        first_row=0,
        height=size[0],
        width=size[1],
        tileable=tileable,
        maps=maps,
        class_pixels=(0,) * len(CLASSES),
        cells=b"",
        means={},
        licence="",
        attribution="",
    )

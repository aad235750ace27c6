"""A shard set of twelve small generated materials, for benchmarks that do not measure data."""

from __future__ import annotations

from pathlib import Path

from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.generated import GeneratedSource


def write_small_set(root: Path) -> None:
    """Write twelve materials of 128 px to a new set; every fourth is for validation."""
    source = GeneratedSource(count=12, size=128, seed=0)
    order = {entry.id: number for number, entry in enumerate(source.entries())}
    info, rows = write_shard(
        root / shard_name(version=1, ordinal=0),
        (source.load(entry) for entry in source.entries()),
        split_for=lambda material: "val" if order[material.id] % 4 == 3 else "train",
    )
    publish(root, shards=[info], rows=[rows], previous=None)

"""Prepares shards: lists sources, assigns splits, and writes the materials of each shard."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pbrlib.data.materials.audit import Chooser, Finding, read_audited
from pbrlib.data.materials.ids import invalid_ids, valid_entries
from pbrlib.data.materials.material import Entry, Material, Source
from pbrlib.data.shards.duplicates import HASHED_MAPS, pairs_across_splits
from pbrlib.data.shards.index import IndexRow, Split, to_table
from pbrlib.data.shards.indexfile import parse_index
from pbrlib.data.shards.manifest import ShardInfo
from pbrlib.data.shards.split import complete_splits
from pbrlib.data.shards.writer import write_shard
from pbrlib.errors import DataError
from pbrlib.maps import MAPS, RELIEF

MATERIALS_PER_SHARD = 8
"""Maximum materials per shard; eight of 1024 px are about 50 MB, and justify the start of a task."""


@dataclass(frozen=True)
class SourceEntry:
    """An entry and its source."""

    source: Source
    entry: Entry


@dataclass(frozen=True)
class Group:
    """The materials of a shard file, and the splits of their families."""

    file: str
    members: tuple[SourceEntry, ...]
    splits: Mapping[str, Split]


@dataclass(frozen=True)
class WrittenShard:
    """The result of writing a group; ``shard`` is None if no material of the group could be stored."""

    shard: ShardInfo | None
    rows: tuple[IndexRow, ...]
    findings: tuple[Finding, ...]


def list_sources(sources: Sequence[Source]) -> tuple[list[SourceEntry], list[Finding]]:
    """List the entries of all sources, and an error for each entry with the id of an earlier one.

    Raises:
        DataError: A source does not exist.
    """
    first: dict[str, SourceEntry] = {}
    findings: list[Finding] = []
    for source in sources:
        for entry in valid_entries(source):
            taken = first.setdefault(entry.id, SourceEntry(source, entry))
            if taken.entry is not entry:
                message = (
                    f"{entry.id}: got the id in {taken.source.name} and in {source.name}; expected each id "
                    "once. The first is used. Rename the other, or prepare it into another set."
                )
                findings.append(Finding(f"{entry.id} (again)", "", "twice", "error", message))
    return list(first.values()), findings


def list_left_out(sources: Sequence[Source]) -> list[Finding]:
    """Return the findings of sources on everything that they leave out or cannot list."""
    notes = [finding for source in sources if isinstance(source, Chooser) for finding in source.left_out()]
    return [*(finding for source in sources for finding in invalid_ids(source)), *notes]


def exclude_split_blends(
    listed: Sequence[SourceEntry], *, splits: Mapping[str, Split]
) -> tuple[list[SourceEntry], list[Finding]]:
    """Exclude materials with relatives in the other split, such as a blend of two originals.

    Returns:
        The remaining entries in order, and a note on each excluded entry.
    """
    kept: list[SourceEntry] = []
    notes: list[Finding] = []
    for item in listed:
        own = splits[item.entry.family]
        others = [family for family in item.entry.relatives if splits.get(family, own) != own]
        if others:
            why = f"of {item.entry.family} ({own}) and of {others[0]} ({splits[others[0]]}); left out"
            notes.append(Finding(item.entry.id, "", "both splits", "note", why))
        else:
            kept.append(item)
    return kept, notes


def update_splits(
    written: Sequence[WrittenShard],
    listed: Sequence[SourceEntry],
    *,
    earlier: Sequence[IndexRow],
    splits: Mapping[str, Split],
    held: Collection[str],
) -> list[WrittenShard]:
    """Assign splits again after reading, so that every class has both splits if possible.

    The audit may have excluded all materials of a class in one split. Families that are related by blends
    keep their splits, since blends across splits were excluded before.

    Args:
        written: The new shards.
        listed: The entries of the new shards.
        earlier: The index of the version to append to.
        splits: The splits of all families that were assigned before reading.
        held: Families that the user holds out.
    """
    entries = [item.entry for item in listed if item.entry.relatives]
    related = {family for entry in entries for family in (entry.family, *entry.relatives)}
    fixed = related | {row.family for row in earlier} | set(held)
    rows = [row for shard in written for row in shard.rows]
    final = complete_splits(splits, [*earlier, *rows], fixed=fixed)
    return [
        replace(shard, rows=tuple(replace(row, split=final[row.family]) for row in shard.rows))
        for shard in written
    ]


def near_duplicates(earlier: Sequence[IndexRow], fresh: Sequence[IndexRow]) -> list[Finding]:
    """Return a warning on every pair of near-duplicates across the splits with a fresh material."""
    new = {row.id for row in fresh}
    findings = []
    for held, seen, apart in pairs_across_splits([*earlier, *fresh]):
        if held.id in new or seen.id in new:
            hashed = next(name for name in HASHED_MAPS if name in held.maps)
            message = (
                f"nearly equal to {seen.id}: {held.id} is for validation and {seen.id} for training "
                f"({apart} of 64 bits of their perceptual hashes differ). Hold out both (--hold-out), "
                "or remove one."
            )
            findings.append(Finding(held.id, hashed, "near-duplicate", "warning", message))
    return findings


def group_entries(listed: Sequence[SourceEntry]) -> list[tuple[SourceEntry, ...]]:
    """Divide entries into consecutive groups of nearly equal size, of at most ``MATERIALS_PER_SHARD``.

    The result depends on the list only, so that the same sources give the same shards on every machine.
    """
    num_groups = -(-len(listed) // MATERIALS_PER_SHARD)
    bounds = [len(listed) * i // max(num_groups, 1) for i in range(num_groups + 1)]
    return [tuple(listed[start:stop]) for start, stop in pairwise(bounds)]


def write_group(group: Group, *, out: Path) -> WrittenShard:
    """Read, audit and store the materials of a group, one at a time.

    Raises:
        DataError: The shard cannot be written.
    """
    findings: list[Finding] = []
    fit = _fit(group.members, findings)
    first = next(fit, None)
    if first is None:
        return WrittenShard(None, (), tuple(findings))
    path = out / group.file
    shard, rows = write_shard(
        path, chain([first], fit), split_for=lambda material: group.splits[material.family]
    )
    return WrittenShard(shard, tuple(rows), tuple(findings))


def to_job_result(written: WrittenShard) -> dict[str, Any]:
    """Convert a written shard to JSON values; `from_job_result` is the inverse."""
    rows = io.BytesIO()
    pq.write_table(to_table(written.rows), rows, compression="zstd")
    return {
        "shard": None if written.shard is None else written.shard.model_dump(),
        "rows": base64.b64encode(rows.getvalue()).decode(),
        "findings": [asdict(finding) for finding in written.findings],
    }


def from_job_result(result: Mapping[str, Any]) -> WrittenShard:
    """Convert the values of `to_job_result` to a written shard; raises DataError if they are damaged."""
    shard = None if result["shard"] is None else ShardInfo.model_validate(result["shard"])
    rows = parse_index(base64.b64decode(result["rows"]), shard_rows=[] if shard is None else [shard.rows])
    return WrittenShard(shard, rows, tuple(Finding(**finding) for finding in result["findings"]))


def with_relief(material: Material) -> Material:
    """Return the material with its map ``relief``, which is computed from the normals if missing.

    Raises:
        DataError: The relief is not finite.
    """
    import torch

    from pbrlib.geometry import relief

    if RELIEF.name in material.maps:
        return material
    raw = torch.from_numpy(np.ascontiguousarray(material.maps["normal"])).permute(2, 0, 1)[None]
    decoded = relief(MAPS["normal"].decode(raw), tileable=material.tileable)[0]
    if not bool(decoded.isfinite().all()):
        raise DataError(
            f"{material.id}: got a relief that is not finite; expected finite values. Check its normal map."
        )
    stored = RELIEF.quantise(decoded.permute(1, 2, 0).numpy())
    return replace(material, maps={**material.maps, RELIEF.name: stored})


def _fit(members: Sequence[SourceEntry], findings: list[Finding]) -> Iterator[Material]:
    """Yield the materials without an error, ready to be stored; all findings are added to the list."""
    for member in members:
        material, found = read_audited(member.source, member.entry)
        findings += found
        if material is None:
            continue
        try:
            yield with_relief(material)
        except DataError as error:
            findings.append(Finding(member.entry.id, RELIEF.name, "not finite", "error", str(error)))

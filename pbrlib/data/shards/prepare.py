"""From entries of sources to shard files: which split each goes to, and what one shard's writer does."""

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
from pbrlib.data.shards.duplicates import HASHED, across_splits
from pbrlib.data.shards.index import IndexRow, Split, to_table
from pbrlib.data.shards.indexfile import parse_index
from pbrlib.data.shards.manifest import ShardInfo
from pbrlib.data.shards.split import complete_splits
from pbrlib.data.shards.writer import write_shard
from pbrlib.errors import DataError
from pbrlib.maps import MAPS, RELIEF

MATERIALS_PER_SHARD = 8
"""At most; eight materials of 1024 px fill about 50 MB, and are a task long enough to be worth starting."""


@dataclass(frozen=True)
class Listed:
    """An entry and the source that lists it."""

    source: Source
    entry: Entry


@dataclass(frozen=True)
class Group:
    """The materials of one shard file, and the split of each of their families."""

    file: str
    members: tuple[Listed, ...]
    splits: Mapping[str, Split]


@dataclass(frozen=True)
class Written:
    """What came of a group: ``shard`` is None if no material of it was fit to be stored."""

    shard: ShardInfo | None
    rows: tuple[IndexRow, ...]
    findings: tuple[Finding, ...]


def list_sources(sources: Sequence[Source]) -> tuple[list[Listed], list[Finding]]:
    """List the entries of all sources, and an error for each whose id an earlier entry has.

    Raises:
        DataError: There is no such source.
    """
    first: dict[str, Listed] = {}
    findings: list[Finding] = []
    for source in sources:
        for entry in valid_entries(source):
            taken = first.setdefault(entry.id, Listed(source, entry))
            if taken.entry is not entry:
                message = (
                    f"{entry.id}: in {taken.source.name} and again in {source.name}; expected each id once. "
                    "The first is taken. Rename the other, or prepare it into another set."
                )
                findings.append(Finding(f"{entry.id} (again)", "", "twice", "error", message))
    return list(first.values()), findings


def list_left_out(sources: Sequence[Source]) -> list[Finding]:
    """List what sources do not offer: notes on what they leave out, errors on what they cannot list."""
    notes = [finding for source in sources if isinstance(source, Chooser) for finding in source.left_out()]
    return [*(finding for source in sources for finding in invalid_ids(source)), *notes]


def apart_from_relatives(
    listed: Sequence[Listed], *, splits: Mapping[str, Split]
) -> tuple[list[Listed], list[Finding]]:
    """Leaves out what holds a part of a family of the other split: a blend of two originals, for one.

    Returns:
        The rest in order, and a note on each that is left out.
    """
    kept: list[Listed] = []
    notes: list[Finding] = []
    for one in listed:
        own = splits[one.entry.family]
        others = [family for family in one.entry.relatives if splits.get(family, own) != own]
        if others:
            why = f"of {one.entry.family} ({own}) and of {others[0]} ({splits[others[0]]}); left out"
            notes.append(Finding(one.entry.id, "", "both splits", "note", why))
        else:
            kept.append(one)
    return kept, notes


def resplit(
    written: Sequence[Written],
    listed: Sequence[Listed],
    *,
    earlier: Sequence[IndexRow],
    splits: Mapping[str, Split],
    held: Collection[str],
) -> list[Written]:
    """Give every class that was read both splits where it can have them: the audit may have left one out.

    Families that a blend has a part of stay where they are, since what straddles is left out before.

    Args:
        written: The new shards.
        listed: What was read into them.
        earlier: The index of the version to append to.
        splits: Of all families, as they were assigned before reading.
        held: Families that the user holds out.
    """
    entries = [one.entry for one in listed if one.entry.relatives]
    related = {family for entry in entries for family in (entry.family, *entry.relatives)}
    fixed = related | {row.family for row in earlier} | set(held)
    rows = [row for one in written for row in one.rows]
    final = complete_splits(splits, [*earlier, *rows], fixed=fixed)
    return [
        replace(one, rows=tuple(replace(row, split=final[row.family]) for row in one.rows)) for one in written
    ]


def near_duplicates(earlier: Sequence[IndexRow], fresh: Sequence[IndexRow]) -> list[Finding]:
    """A warning on every pair of near-duplicates across the splits of which one is fresh."""
    new = {row.id for row in fresh}
    findings = []
    for held, seen, apart in across_splits([*earlier, *fresh]):
        if held.id in new or seen.id in new:
            hashed = next(name for name in HASHED if name in held.maps)
            message = (
                f"nearly the same as {seen.id}: {held.id} is to validate and {seen.id} to train on "
                f"({apart} of 64 bits of their perceptual hashes differ). Hold out both (--hold-out), "
                "or leave one out."
            )
            findings.append(Finding(held.id, hashed, "near-duplicate", "warning", message))
    return findings


def grouped(listed: Sequence[Listed]) -> list[tuple[Listed, ...]]:
    """Even runs of at most ``MATERIALS_PER_SHARD`` entries.

    Depends on the list alone, so the same sources give the same shards on any machine.
    """
    num_groups = -(-len(listed) // MATERIALS_PER_SHARD)
    bounds = [len(listed) * i // max(num_groups, 1) for i in range(num_groups + 1)]
    return [tuple(listed[start:stop]) for start, stop in pairwise(bounds)]


def write_group(group: Group, *, out: Path) -> Written:
    """Reads, audits and stores the materials of a group, one at a time.

    Raises:
        DataError: The shard cannot be written.
    """
    findings: list[Finding] = []
    fit = _fit(group.members, findings)
    first = next(fit, None)
    if first is None:
        return Written(None, (), tuple(findings))
    path = out / group.file
    shard, rows = write_shard(
        path, chain([first], fit), split_for=lambda material: group.splits[material.family]
    )
    return Written(shard, tuple(rows), tuple(findings))


def result_of(written: Written) -> dict[str, Any]:
    """What was written as values of JSON's types; `read_written` reads them back."""
    rows = io.BytesIO()
    pq.write_table(to_table(written.rows), rows, compression="zstd")
    return {
        "shard": None if written.shard is None else written.shard.model_dump(),
        "rows": base64.b64encode(rows.getvalue()).decode(),
        "findings": [asdict(finding) for finding in written.findings],
    }


def read_written(result: Mapping[str, Any]) -> Written:
    """What `result_of` has made values of; raises DataError if they are damaged."""
    shard = None if result["shard"] is None else ShardInfo.model_validate(result["shard"])
    rows = parse_index(base64.b64decode(result["rows"]), shard_rows=[] if shard is None else [shard.rows])
    return Written(shard, rows, tuple(Finding(**finding) for finding in result["findings"]))


def with_relief(material: Material) -> Material:
    """The material with its map ``relief``, computed from its normals if it is not there yet.

    Raises:
        DataError: It is not finite.
    """
    import torch

    from pbrlib.geometry import relief

    if RELIEF.name in material.maps:
        return material
    raw = torch.from_numpy(np.ascontiguousarray(material.maps["normal"])).permute(2, 0, 1)[None]
    decoded = relief(MAPS["normal"].decode(raw), tileable=material.tileable)[0]
    if not bool(decoded.isfinite().all()):
        raise DataError(f"{material.id}: its relief is not finite. Check its normal map.")
    stored = RELIEF.quantise(decoded.permute(1, 2, 0).numpy())
    return replace(material, maps={**material.maps, RELIEF.name: stored})


def _fit(members: Sequence[Listed], findings: list[Finding]) -> Iterator[Material]:
    """The materials without an error, ready to be stored; the findings go into the list on the way."""
    for one in members:
        material, found = read_audited(one.source, one.entry)
        findings += found
        if material is None:
            continue
        try:
            yield with_relief(material)
        except DataError as error:
            findings.append(Finding(one.entry.id, RELIEF.name, "not finite", "error", str(error)))

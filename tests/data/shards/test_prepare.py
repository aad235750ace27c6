from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.materials.material import Entry
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.prepare import (
    MATERIALS_PER_SHARD,
    Group,
    SourceEntry,
    WrittenShard,
    exclude_split_blends,
    from_job_result,
    group_entries,
    list_left_out,
    list_sources,
    near_duplicates,
    to_job_result,
    with_relief,
    write_group,
)
from pbrlib.data.shards.split import assign_splits
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.data.sources.matsynth import MatSynthSource
from pbrlib.maps import RELIEF
from tests.data.shards.materials import index_row
from tests.data.sources.folders import write_material
from tests.data.sources.hub_files import row, write

ENTRIES = [Entry(f"m{i}", f"f{i}") for i in range(40)]


def test_a_blend_across_splits_is_left_out_with_a_note() -> None:
    source = GeneratedSource(count=1, size=16, seed=0)
    entries = [
        Entry("bricks", "b"),
        Entry("snow", "s"),
        Entry("bricks and moss", "b", relatives=("m",)),
        Entry("bricks and snow", "b", relatives=("m", "s")),
        Entry("bricks and what is not here", "b", relatives=("x",)),
    ]
    listed = [SourceEntry(source, entry) for entry in entries]
    kept, notes = exclude_split_blends(listed, splits={"b": "train", "m": "train", "s": "val"})
    assert [one.entry.id for one in kept] == ["bricks", "snow", "bricks and moss", entries[4].id]
    assert [(n.material, n.severity, n.message) for n in notes] == [
        ("bricks and snow", "note", "of b (train) and of s (val); left out")
    ]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from("abc"))), max_size=20))
def test_no_family_of_the_remaining_entries_is_in_both_splits(drawn: list[tuple[str, set[str]]]) -> None:
    source = GeneratedSource(count=1, size=16, seed=0)
    splits = assign_splits([Entry(f, f) for f in "abc"], val_share=0, hold_out=["c"])
    listed = [
        SourceEntry(source, Entry(str(i), family, relatives=tuple(sorted(others))))
        for i, (family, others) in enumerate(drawn)
    ]
    kept, notes = exclude_split_blends(listed, splits=splits)
    assert len(kept) + len(notes) == len(listed)
    for one in kept:
        assert len({splits[f] for f in (one.entry.family, *one.entry.relatives)}) == 1


def hashed(name: str, split: str, phash: int) -> IndexRow:
    row = index_row(size=(8, 8), maps=("diffuse", "normal"))
    return replace(row, id=name, split=split, phash=phash)


def test_new_near_duplicates_across_splits_are_warnings() -> None:
    earlier = [hashed("old", "train", 0b11), hashed("known", "val", 0b1)]
    fresh = [hashed("new", "val", 0b111), hashed("far", "val", 2**40 - 1)]
    (found,) = near_duplicates(earlier, fresh)
    assert (found.material, found.map, found.severity) == ("new", "diffuse", "warning")
    assert "new is for validation and old for training (1 of 64 bits" in found.message


def test_sources_report_what_they_leave_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", row("a", "wood"), row("b", "plastic"))
    sources = [GeneratedSource(count=1, size=16, seed=0), MatSynthSource(str(path))]
    assert [(n.material, n.severity) for n in list_left_out(sources)] == [("b", "note")]


def test_a_repeated_id_is_an_error_and_the_first_entry_is_used(tmp_path: Path) -> None:
    for name in ("oak", "ash"):
        write_material(tmp_path, name)
    listed, findings = list_sources([FolderSource(str(tmp_path), name=name) for name in ("one", "other")])
    assert [(one.entry.id, one.source.name) for one in listed] == [("ash", "one"), ("oak", "one")]
    assert [(f.material, f.check, f.severity) for f in findings] == [
        ("ash (again)", "twice", "error"),
        ("oak (again)", "twice", "error"),
    ]
    assert "got the id in one and in other" in findings[0].message


@given(st.integers(0, 100))
def test_groups_are_even_and_complete(count: int) -> None:
    listed = [SourceEntry(GeneratedSource(count=1, size=16, seed=0), entry) for entry in ENTRIES * 3][:count]
    groups = group_entries(listed)
    sizes = [len(group) for group in groups]
    assert [one for group in groups for one in group] == listed
    assert all(1 <= size <= MATERIALS_PER_SHARD for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_relief_is_added_once() -> None:
    source = GeneratedSource(count=1, size=32, seed=0)
    material = with_relief(source.load(source.entries()[0]))
    assert material.maps["relief"].shape == (32, 32, RELIEF.channels)
    assert material.maps["relief"].dtype == RELIEF.dtype
    assert with_relief(material) is material


def test_a_written_shard_is_restored_from_json_values(tmp_path: Path) -> None:
    write_material(tmp_path / "in", "planks", height=np.full((32, 32), 9, np.uint8))
    (write_material(tmp_path / "in", "rock") / "normal.png").unlink()
    sources = [FolderSource(str(tmp_path / "in")), GeneratedSource(count=8, size=32, seed=1)]
    listed, _ = list_sources(sources)
    families = dict.fromkeys((one.entry.family for one in listed), "train")
    written = write_group(Group("shards/0001-00000.parquet", tuple(listed), families), out=tmp_path / "out")
    assert {finding.severity for finding in written.findings} >= {"error", "warning"}
    assert from_job_result(json.loads(json.dumps(to_job_result(written)))) == written
    nothing = WrittenShard(None, (), written.findings)
    assert from_job_result(json.loads(json.dumps(to_job_result(nothing)))) == nothing


def test_a_group_without_a_valid_material_writes_no_shard(tmp_path: Path) -> None:
    (write_material(tmp_path / "in", "planks") / "normal.png").unlink()
    source = FolderSource(str(tmp_path / "in"))
    group = Group("shards/0001-00000.parquet", tuple(list_sources([source])[0]), {"planks": "train"})
    written = write_group(group, out=tmp_path / "out")
    assert (written.shard, written.rows) == (None, ())
    assert [finding.check for finding in written.findings] == ["missing"]
    assert not (tmp_path / "out").exists()

"""Tests of the splits: both in every class, and stable if a set grows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.materials.material import Entry
from pbrlib.data.shards.index import IndexRow
from pbrlib.data.shards.split import assign_splits, count_splits, split_of, validation_problem
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES
from tests.data.shards.materials import index_row

ENTRIES = [Entry(f"m{i}", f"f{i}") for i in range(40)]

ANY = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from([*CLASSES, None])),
    min_size=1,
    max_size=60,
    unique_by=lambda pair: pair[0],
)


def entries_of(pairs: list[tuple[int, str | None]]) -> list[Entry]:
    return [Entry(f"m{number}", f"family {number}", label=label) for number, label in pairs]


def split(**options):
    return assign_splits(ENTRIES, **{"val_share": 0.3, "hold_out": (), **options})


def by_class(entries: list[Entry], splits: dict[str, str]) -> dict[str | None, list[str]]:
    labels = dict.fromkeys(entry.label for entry in entries)
    return {label: [splits[e.family] for e in entries if e.label == label] for label in labels}


def test_added_materials_do_not_change_splits() -> None:
    fewer = assign_splits(ENTRIES[:11], val_share=0.3, hold_out=())
    assert fewer.items() <= split().items()
    assert set(split().values()) == {"train", "val"}


def test_patterns_hold_out_ids_and_whole_families() -> None:
    entries = [Entry("a_01", "a"), Entry("a_02", "a"), Entry("b", "b"), Entry("c", "cc")]
    assert assign_splits(entries, val_share=0, hold_out=["a_02"]) == {"a": "val", "b": "train", "cc": "train"}
    assert assign_splits(entries, val_share=0, hold_out=["[bc]*"]) == {"a": "train", "b": "val", "cc": "val"}


def test_a_pattern_without_a_match_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match=r"--hold-out m77: matches no material\. Did you mean m7"):
        split(hold_out=["m77"])


def test_families_of_an_earlier_version_keep_their_split() -> None:
    earlier = [replace(index_row(size=(8, 8)), id="old", family="f3", split="val")]
    assert split(val_share=0, earlier=earlier)["f3"] == "val"


def test_a_training_family_of_an_earlier_version_cannot_be_held_out() -> None:
    earlier = [replace(index_row(size=(8, 8)), id="old", family="f3", split="train")]
    with pytest.raises(DataError, match="got f3, which is for training"):
        split(hold_out=["m3"], earlier=earlier)


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_the_families_of_a_smaller_one(family: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if split_of(family, val_share=small) == "val":
        assert split_of(family, val_share=large) == "val"


def test_the_split_of_a_family_never_changes() -> None:
    """Another hash would change the splits of existing sets."""
    found = [split_of(f"family{n}", val_share=0.5) for n in range(8)]
    assert found == ["train", "train", "train", "val", "train", "val", "train", "val"]


def test_the_share_is_met_over_many_families() -> None:
    count = sum(split_of(f"material {n}", val_share=0.1) == "val" for n in range(5000))
    assert 420 <= count <= 580


@given(ANY, st.floats(0.01, 0.99))
def test_a_class_of_several_families_trains_and_validates(
    pairs: list[tuple[int, str | None]], share: float
) -> None:
    entries = entries_of(pairs)
    splits = assign_splits(entries, val_share=share, hold_out=())
    found = by_class(entries, splits)
    for label, of_class in found.items():
        if len(of_class) > 1:
            assert set(of_class) == {"train", "val"}, label
    single = [of_class[0] for of_class in found.values() if len(of_class) == 1]
    alone = 1 < len(single) == len(entries)  # no class has a second family
    assert single.count("val") == int(alone)


@given(ANY, st.floats(0.01, 0.99))
def test_step_four_changes_at_most_one_family_of_a_class(
    pairs: list[tuple[int, str | None]], share: float
) -> None:
    entries = entries_of(pairs)
    splits = assign_splits(entries, val_share=share, hold_out=())
    moved = [e for e in entries if splits[e.family] != split_of(e.family, val_share=share)]
    assert len({entry.label for entry in moved}) == len(moved)


@given(ANY, ANY)
def test_appended_materials_do_not_change_the_splits_of_a_set(one: list, other: list) -> None:
    before = assign_splits(entries_of(one), val_share=0.2, hold_out=())
    earlier = [
        replace(index_row(size=(8, 8)), id=e.id, family=e.family, label=e.label, split=before[e.family])
        for e in entries_of(one)
    ]
    after = assign_splits(entries_of(other), val_share=0.2, hold_out=(), earlier=earlier)
    assert before.items() <= after.items()


def test_an_appended_family_validates_a_class_without_validation() -> None:
    earlier = [replace(index_row(size=(8, 8)), id="a", family="oak", label="wood", split="train")]
    splits = assign_splits([Entry("b", "elm", label="wood")], val_share=0.01, hold_out=(), earlier=earlier)
    assert splits == {"oak": "train", "elm": "val"}


def test_a_class_with_a_held_out_family_gives_no_other_family() -> None:
    entries = [Entry(f"w{i}", f"wood{i}", label="wood") for i in range(6)]
    splits = assign_splits(entries, val_share=0.001, hold_out=["wood3"])
    assert [family for family, split in splits.items() if split == "val"] == ["wood3"]


def test_without_a_share_only_held_out_families_validate() -> None:
    assert set(split(val_share=0).values()) == {"train"}
    assert set(split(val_share=1).values()) == {"val"}


def test_a_set_without_validation_is_refused_with_the_options_that_help() -> None:
    said = validation_problem(["train", "train"])
    assert said is not None
    for part in ("no material for validation", "--hold-out", "--val-share"):
        assert part in said
    assert validation_problem(["train", "val"]) is None


def test_materials_are_counted_by_class_and_split() -> None:
    rows: list[IndexRow] = [
        replace(index_row(size=(8, 8)), label=label, split=split)
        for label, split in [("wood", "val"), (None, "train"), ("metal", "train"), ("wood", "train")]
    ]
    assert count_splits(rows) == {
        "metal": {"train": 1, "val": 0},
        "wood": {"train": 1, "val": 1},
        "(mixed or unknown)": {"train": 1, "val": 0},
    }

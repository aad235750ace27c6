"""Assigns families of materials to training or validation, by a hash of their name and within each class."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pbrlib.data.materials.material import Entry
from pbrlib.data.shards.index import IndexRow, Split
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES

UNLABELLED = "(mixed or unknown)"
"""The name of materials without a class, or with several, in tables and manifests."""


def assign_splits(
    entries: Sequence[Entry],
    *,
    val_share: float,
    hold_out: Sequence[str],
    earlier: Sequence[IndexRow] = (),
) -> dict[str, Split]:
    """Return the split of every family, such that each class has both splits where it can.

    1. Families of an earlier version keep their split.
    2. A pattern of ``hold_out`` (as in file names, on ids or families) sends the whole family of each match
       to validation, so that no family is on both sides.
    3. A family whose hash lies below ``val_share`` goes to validation.
    4. A class of two or more families that has none to validate gives the one with the lowest hash; a class
       that has none to train on gives the one with the highest. A class of one family trains on it, unless
       every class is so small: then the lowest hash of all validates. Materials without a class count as a
       class of their own.

    So a split is stable in this sense: the first three steps look at one family alone, and no other material
    moves it. Step 4 moves at most one family of a class, and only in a class that is too small for its share:
    a new set that holds more of that class may choose another one. An appended version never moves any.

    Args:
        entries: The materials that the sources list.
        val_share: Share of the families for validation, 0..1; at 0 and 1 step 4 does nothing.
        hold_out: Patterns of ids or families that go to validation.
        earlier: The index of the version to append to.

    Raises:
        DataError: A pattern matches nothing, or something that an earlier version trains on.
    """
    kept: dict[str, Split] = {row.family: row.split for row in earlier}
    held = families_held_out(entries, hold_out=hold_out, earlier=earlier)
    splits: dict[str, Split] = {
        entry.family: "val" if entry.family in held else split_of(entry.family, val_share=val_share)
        for entry in entries
    }
    splits |= kept
    if 0.0 < val_share < 1.0:
        splits = complete_splits(splits, [*earlier, *entries], fixed=held | kept.keys())
    return splits


def complete_splits(
    splits: Mapping[str, Split], members: Sequence[Entry | IndexRow], *, fixed: Collection[str]
) -> dict[str, Split]:
    """Return splits after step 4 of `assign_splits`, for the classes that these members have.

    Once materials are read, some are left out and classes are known that no listing gives: the step then
    applies to what is there.

    Args:
        splits: The split of every family.
        members: All materials of the set.
        fixed: Families whose split stays.
    """
    completed = dict(splits)
    for families in _by_class(members).values():
        free = [family for family in families if family not in fixed]
        present = {completed[family] for family in families}
        if free and "train" not in present:
            completed[max(free, key=_position)] = "train"
        elif free and "val" not in present and len(families) > 1:
            completed[min(free, key=_position)] = "val"
    every = {family for families in _by_class(members).values() for family in families}
    if len(every) > 1 and "val" not in {completed[family] for family in every} and every - set(fixed):
        completed[min(every - set(fixed), key=_position)] = "val"
    return completed


def families_held_out(
    entries: Sequence[Entry], *, hold_out: Sequence[str], earlier: Sequence[IndexRow]
) -> frozenset[str]:
    """Return the families that the patterns of ``--hold-out`` name; raises as `assign_splits` does."""
    members: list[Entry | IndexRow] = [*entries, *earlier]
    names = {(one.id, one.family) for one in members}
    trained = {row.family for row in earlier if row.split == "train"}
    held: set[str] = set()
    for pattern in hold_out:
        matched = {family for name, family in names if _matches(pattern, name, family)}
        if not matched:
            parts = sorted({part for pair in names for part in pair})
            near = get_close_matches(pattern, parts, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else "Give ids or families, * for any characters."
            raise DataError(f"--hold-out {pattern}: matches no material. {hint}")
        held |= matched
        clash = sorted(matched & trained)
        if clash:
            raise DataError(
                f"--hold-out {pattern}: {clash[0]} is for training in the version to append to, and what "
                "was trained on cannot be held out. Prepare into a new folder."
            )
    return frozenset(held)


def split_of(family: str, *, val_share: float) -> Split:
    """Return the split of a family from a hash of its name alone: no other material can move it.

    A family of validation stays there when ``val_share`` (0..1) grows.
    """
    return "val" if _position(family) < val_share else "train"


def count_splits(rows: Iterable[IndexRow]) -> dict[str, dict[Split, int]]:
    """Return the number of materials of each class by split, classes in their order, unlabelled ones last."""
    counts = Counter((row.label or UNLABELLED, row.split) for row in rows)
    present = [name for name in (*CLASSES, UNLABELLED) if counts[name, "train"] or counts[name, "val"]]
    return {name: {"train": counts[name, "train"], "val": counts[name, "val"]} for name in present}


def validation_problem(splits: Iterable[Split]) -> str | None:
    """Return what is wrong with a set that has nothing to validate, and what helps; None if it has."""
    if "val" in set(splits):
        return None
    return (
        "no material to validate, so no checkpoint could be chosen. Name families with --hold-out PATTERN, "
        "raise --val-share (1 for a set that is only evaluated), or add materials of other families"
    )


def _position(family: str) -> float:
    """Return a number in [0, 1) from a hash of a name."""
    return int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2**64


def _by_class(members: Iterable[Entry | IndexRow]) -> Mapping[str | None, list[str]]:
    """The families of each class, sorted; a family counts for the class that most of its materials have."""
    labels: dict[str, Counter[str | None]] = defaultdict(Counter)
    for one in members:
        labels[one.family][one.label] += 1
    by_class: dict[str | None, list[str]] = defaultdict(list)
    for family in sorted(labels):
        (label, _), *_ = sorted(labels[family].items(), key=lambda item: (-item[1], item[0] or ""))
        by_class[label].append(family)
    return by_class


def _matches(pattern: str, name: str, family: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(family, pattern)

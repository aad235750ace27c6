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
    """Return the split of every family, so that each class has both splits if possible.

    1. Families of an earlier version keep their split.
    2. The family of each material that matches a pattern of ``hold_out`` (on ids or families, as for file
       names) goes to validation.
    3. A family with a hash below ``val_share`` goes to validation.
    4. If a class of two or more families has none for validation, its family with the lowest hash goes there.
       If a class has none for training, its family with the highest hash goes there. A class of one family is
       for training; but if all classes are so small, the family with the lowest hash of all goes to
       validation. Materials without a class are treated as one class.

    The first three steps depend on one family only, so that no other material changes its split. Step 4
    changes at most one family of a class, and only in a class that is too small for its share; a new set with
    more materials of that class may choose another family. An appended version never changes a split.

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

    After materials are read, some are excluded, and classes of others are known; the step is then applied to
    the remaining materials.

    Args:
        splits: The split of every family.
        members: All materials of the set.
        fixed: Families whose split does not change.
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
    """Return the families that match the patterns of ``--hold-out``; raises as `assign_splits` does."""
    members: list[Entry | IndexRow] = [*entries, *earlier]
    names = {(member.id, member.family) for member in members}
    trained = {row.family for row in earlier if row.split == "train"}
    held: set[str] = set()
    for pattern in hold_out:
        matched = {family for name, family in names if _matches(pattern, name, family)}
        if not matched:
            parts = sorted({part for pair in names for part in pair})
            near = get_close_matches(pattern, parts, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else "Give ids or families; * matches any characters."
            raise DataError(f"--hold-out {pattern}: matches no material. {hint}")
        held |= matched
        clash = sorted(matched & trained)
        if clash:
            raise DataError(
                f"--hold-out {pattern}: got {clash[0]}, which is for training in the version to append to; "
                "expected families that are new or for validation. Prepare into a new folder."
            )
    return frozenset(held)


def split_of(family: str, *, val_share: float) -> Split:
    """Return the split of a family, which depends on a hash of its name only.

    A family for validation stays there if ``val_share`` (0..1) is increased.
    """
    return "val" if _position(family) < val_share else "train"


def count_splits(rows: Iterable[IndexRow]) -> dict[str, dict[Split, int]]:
    """Return the number of materials of each class by split, classes in their order, unlabelled ones last."""
    counts = Counter((row.label or UNLABELLED, row.split) for row in rows)
    present = [name for name in (*CLASSES, UNLABELLED) if counts[name, "train"] or counts[name, "val"]]
    return {name: {"train": counts[name, "train"], "val": counts[name, "val"]} for name in present}


def validation_problem(splits: Iterable[Split]) -> str | None:
    """Return the problem and remedy of a set without a material for validation, or None if it has one."""
    if "val" in set(splits):
        return None
    return (
        "no material for validation, so no checkpoint could be chosen. Give families with --hold-out "
        "PATTERN, raise --val-share (1 for a set that is only evaluated), or add materials of other families"
    )


def _position(family: str) -> float:
    """Return a number in [0, 1) from a hash of a name."""
    return int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") / 2**64


def _by_class(members: Iterable[Entry | IndexRow]) -> Mapping[str | None, list[str]]:
    """Return the sorted families of each class; a family belongs to the class of most of its materials."""
    labels: dict[str, Counter[str | None]] = defaultdict(Counter)
    for member in members:
        labels[member.family][member.label] += 1
    by_class: dict[str | None, list[str]] = defaultdict(list)
    for family in sorted(labels):
        (label, _), *_ = sorted(labels[family].items(), key=lambda item: (-item[1], item[0] or ""))
        by_class[label].append(family)
    return by_class


def _matches(pattern: str, name: str, family: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(family, pattern)

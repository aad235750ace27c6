"""Show a shard set as tables on the terminal and as a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pbrlib.data.shards.split import UNLABELLED
from ray_jobs.output import write_file

if TYPE_CHECKING:
    from rich.table import Table

    from pbrlib.data.shards.index import IndexRow
    from pbrlib.data.shards.reader import ShardSet

CROPS = (256, 512, 768, 1024)
"""Crops for which minority tiles are counted, if a texture is large enough."""

SMALL_CROP = 128
"""Crop that is counted too if a texture is smaller than the first of ``CROPS``."""


def counts_table(rows: Sequence[IndexRow]) -> Table:
    """Return the materials by source, split and class, and the pixel share of each class in each split."""
    from rich.table import Table

    from pbrlib.maps import CLASSES

    groups = sorted({(row.source, row.split) for row in rows})
    table = Table("class", title="Materials, share of labelled pixels", title_justify="left")
    for source, split in groups:
        table.add_column(f"{source} {split}", justify="right")
    members = {group: [row for row in rows if (row.source, row.split) == group] for group in groups}
    for number, name in enumerate(CLASSES):
        cells = []
        for group in groups:
            pixels = [sum(row.class_pixels[i] for row in members[group]) for i in range(len(CLASSES))]
            share = pixels[number] / max(sum(pixels), 1)
            cells.append(f"{sum(row.label == name for row in members[group])}  {share:6.1%}")
        table.add_row(name, *cells)
    without = [str(sum(row.label is None for row in members[group])) + " " * 8 for group in groups]
    table.add_row(UNLABELLED, *without)
    table.add_section()
    table.add_row("all", *(str(len(members[group])) + " " * 8 for group in groups))
    return table


def balance_table(rows: Sequence[IndexRow]) -> Table:
    """Return shares and weights of the classes, sampler weights and minority tiles by training source."""
    from rich.table import Table

    from pbrlib.data.draws.balance import balance_statistics
    from pbrlib.maps import CLASSES

    train = [row for row in rows if row.split == "train"]
    sides = [min(row.height, row.width) for row in train]
    small = (SMALL_CROP,) if min(sides, default=0) < CROPS[0] else ()
    crops = [crop for crop in (*small, *CROPS) if crop <= max(sides, default=0)]
    table = Table("class", title="Balance: share of training pixels, w_c, * minority", title_justify="left")
    found = []
    for source in sorted({row.source for row in train}):
        table.add_column(source, justify="right")
        found.append(balance_statistics([row for row in train if row.source == source], crops=crops))
    for name in CLASSES:
        marks = ("*" if name in one.minority else " " for one in found)
        shown = (f"{one.shares[name]:.1%}  {one.class_weights[name]:.2f}" for one in found)
        table.add_row(name, *(f"{text} {mark}" for text, mark in zip(shown, marks, strict=True)))
    table.add_section()
    weights = [one.sampler for one in found]
    table.add_row("sampler weight, least to most", *(f"{w.min():.2f} to {w.max():.2f}" for w in weights))
    table.add_row("heaviest texture is drawn", *(f"{w.max():.1f} times as often" for w in weights))
    for crop in crops:
        table.add_row(f"minority tiles of {crop} px", *(str(one.tiles[crop]) for one in found))
    return table


def maps_table(rows: Sequence[IndexRow]) -> Table:
    """Return the number of materials of each split that have each map, and the mean of the map."""
    from rich.table import Table

    from pbrlib.maps import MAPS

    table = Table("map", title="Maps", title_justify="left")
    for heading in ("train", "val", "mean of stored / maximum"):
        table.add_column(heading, justify="right")
    for name in MAPS:
        having = [row for row in rows if name in row.maps]
        if not having:
            continue
        splits = Counter(row.split for row in having)
        means = [row.means[name] for row in having if name in row.means]
        averaged = [sum(channel) / len(means) for channel in zip(*means, strict=True)]
        table.add_row(name, str(splits["train"]), str(splits["val"]), " ".join(f"{m:.3f}" for m in averaged))
    return table


def write_contact_sheet(opened: ShardSet, path: Path, *, most: int) -> None:
    """Write a PNG with at most ``most`` materials, the classes in turn, and a column for each map.

    Raises:
        DataError: A shard is damaged, or the picture cannot be written.
    """
    from pbrlib.data.materials.contact import as_picture, contact_sheet
    from pbrlib.maps import MAPS

    columns = [name for name in MAPS if any(name in row.maps for row in opened.rows)]
    rows = []
    for row in _chosen(opened.rows, most):
        maps = opened.read_whole(row, row.maps)
        caption = f"{row.id}  {row.label or UNLABELLED}  {row.source} {row.split}  {row.width}x{row.height}"
        rows.append((caption, {name: as_picture(stored, MAPS[name]) for name, stored in maps.items()}))
    write_file(path, contact_sheet(rows, columns=columns))


def _chosen(rows: Sequence[IndexRow], most: int) -> list[IndexRow]:
    """Return materials of every class in turn, evenly spaced within each class."""
    by_class: dict[str, list[IndexRow]] = {}
    for row in rows:
        by_class.setdefault(row.label or UNLABELLED, []).append(row)
    each = 1
    while sum(min(each, len(group)) for group in by_class.values()) < min(most, len(rows)):
        each += 1
    turns = [list(_evenly(by_class[name], each)) for name in sorted(by_class)]
    in_turn = [turn[i] for i in range(each) for turn in turns if i < len(turn)]
    return in_turn[:most]


def _evenly(rows: Sequence[IndexRow], count: int) -> Iterator[IndexRow]:
    for i in range(min(count, len(rows))):
        yield rows[i * len(rows) // min(count, len(rows))]


def join_counts(counts: dict[str, int]) -> str:
    """Join names and their counts into one line."""
    shown = [f"{size} ({count})" for size, count in Counter(counts).most_common(8)]
    return ", ".join(shown) + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")

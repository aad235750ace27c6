"""The pairs of an input tree that are converted, by names and by the sizes in their headers."""

from __future__ import annotations

from pathlib import Path

from pbrlib.convert.existing import diffuse_path, kept, kept_in_output, pbr_sets
from pbrlib.convert.patcher import land_note, refused
from pbrlib.convert.truepbr import TEXTURES
from pbrlib.errors import DataError, first_line
from pbrlib.textures.decode import read_size
from pbrlib.textures.leftout import LeftOutFile, Outcome, sorted_left_out
from pbrlib.textures.matching import Pair
from pbrlib.textures.pairs import Listing, find_pairs
from pbrlib.textures.treefiles import subfolder

MAX_SIDE = 2048
"""Pixels of the longest side that is converted in one pass."""

_SAME_SHAPE = 1.1
"""Ratio of the aspect ratios of a diffuse and a normal up to which variants are taken to share it."""


def find_textures(source: Path, *, output: Path | None = None) -> Listing:
    """Lists the textures of a tree that are converted, and why every other is not.

    Args:
        source: A game's or a mod's folder, its texture folder or a folder in that.
        output: The folder of the mod, whose sets of other origin are not replaced.

    Raises:
        DataError: As `pbrlib.textures.pairs.find_pairs`.
    """
    listing = find_pairs(source)
    inside = pbr_sets(listing.root)
    textures = subfolder(output, TEXTURES.parts[0]) if output is not None and output.is_dir() else None
    standing = pbr_sets(textures) if textures is not None else {}
    pairs: list[Pair] = []
    left_out = list(listing.left_out)
    for pair in listing.pairs:
        file = kept(pair, inside) or refused(pair) or _measured(pair)
        if file is None and output is not None:
            file = kept_in_output(pair, standing, output=output)
        if file is None:
            pairs.append(pair)
        else:
            left_out.append(file)
    note = land_note(pairs)
    notes = (*listing.notes, note) if note else listing.notes
    return Listing(listing.root, tuple(pairs), sorted_left_out(left_out), notes)


def _measured(pair: Pair) -> LeftOutFile | None:
    """Why the headers of a pair forbid to convert it; None if they do not."""
    path = diffuse_path(pair)
    try:
        sizes = [read_size(pair.diffuse), read_size(pair.normal)]
    except (DataError, OSError) as error:
        return LeftOutFile(path, Outcome.FAILED, first_line(error))
    height, width = sizes[0]
    if max(height, width) > MAX_SIDE:
        reason = f"{width} x {height} px, at most {MAX_SIDE} are converted. Reduce it"
        return LeftOutFile(path, Outcome.OVERSIZE, reason)
    if max(sizes[1]) > 2 * MAX_SIDE:
        reason = f"its normal has {max(sizes[1])} px, at most {2 * MAX_SIDE} are read. Reduce it"
        return LeftOutFile(path, Outcome.OVERSIZE, reason)
    if pair.shared and not _same_shape(sizes[0], sizes[1]):
        reason = (
            f"no normal of its own, and {pair.normal.name} of another variant has another shape "
            f"({sizes[1][1]} x {sizes[1][0]} px, not {width} x {height})"
        )
        return LeftOutFile(path, Outcome.UNPAIRED, reason)
    return None


def _same_shape(diffuse: tuple[int, int], normal: tuple[int, int]) -> bool:
    """Whether two sizes have one aspect ratio; a pixel fits everything."""
    if max(normal) == 1:
        return True
    ratio = diffuse[0] * normal[1] / (diffuse[1] * normal[0])
    return 1 / _SAME_SHAPE <= ratio <= _SAME_SHAPE

"""Lists the pairs of a texture tree that are converted, by names and by the sizes in their headers."""

from __future__ import annotations

from pathlib import Path

from pbrlib.convert.existing import diffuse_path, left_out_if_in_input, left_out_if_in_output, pbr_sets
from pbrlib.convert.patcher import landscape_note, left_out_by_patcher
from pbrlib.convert.truepbr import TEXTURES
from pbrlib.errors import DataError, first_line
from pbrlib.textures.decode import read_size
from pbrlib.textures.leftout import LeftOutFile, Outcome, sorted_left_out
from pbrlib.textures.matching import Pair
from pbrlib.textures.pairs import Listing, find_pairs
from pbrlib.textures.treefiles import subfolder

MAX_SIDE = 2048
"""Maximum side in pixels of a texture, which is converted in one pass."""

_SAME_SHAPE = 1.1
"""Maximum ratio between the aspect ratios of a diffuse and a shared normal."""


def find_textures(source: Path, *, output: Path | None = None) -> Listing:
    """List the pairs of a texture tree that are converted, and the left-out files with a reason.

    Args:
        source: The folder of a game or mod, its texture folder, or a folder inside the texture folder.
        output: The folder of the mod; its True PBR sets of other origin are not replaced.

    Raises:
        DataError: As `pbrlib.textures.pairs.find_pairs`.
    """
    listing = find_pairs(source)
    inside = pbr_sets(listing.root)
    textures = subfolder(output, TEXTURES.parts[0]) if output is not None and output.is_dir() else None
    existing = pbr_sets(textures) if textures is not None else {}
    pairs: list[Pair] = []
    left_out = list(listing.left_out)
    for pair in listing.pairs:
        file = left_out_if_in_input(pair, inside) or left_out_by_patcher(pair) or _left_out_by_size(pair)
        if file is None and output is not None:
            file = left_out_if_in_output(pair, existing, output=output)
        if file is None:
            pairs.append(pair)
        else:
            left_out.append(file)
    note = landscape_note(pairs)
    notes = (*listing.notes, note) if note else listing.notes
    return Listing(listing.root, tuple(pairs), sorted_left_out(left_out), notes)


def _left_out_by_size(pair: Pair) -> LeftOutFile | None:
    """Return a pair as left out if its headers are damaged or its sizes unsuitable, else None."""
    path = diffuse_path(pair)
    try:
        sizes = [read_size(pair.diffuse), read_size(pair.normal)]
    except (DataError, OSError) as error:
        return LeftOutFile(path, Outcome.FAILED, first_line(error))
    height, width = sizes[0]
    if max(height, width) > MAX_SIDE:
        reason = f"got {width} x {height} px; expected at most {MAX_SIDE} px a side. Reduce it"
        return LeftOutFile(path, Outcome.OVERSIZE, reason)
    if max(sizes[1]) > 2 * MAX_SIDE:
        reason = f"its normal: got {max(sizes[1])} px; expected at most {2 * MAX_SIDE} px a side. Reduce it"
        return LeftOutFile(path, Outcome.OVERSIZE, reason)
    if pair.shared and not _same_shape(sizes[0], sizes[1]):
        reason = (
            f"no normal of its own, and {pair.normal.name} of another variant has another aspect ratio "
            f"({sizes[1][1]} x {sizes[1][0]} px; expected that of {width} x {height} px). Add a normal"
        )
        return LeftOutFile(path, Outcome.UNPAIRED, reason)
    return None


def _same_shape(diffuse: tuple[int, int], normal: tuple[int, int]) -> bool:
    """Return whether two sizes have about the same aspect ratio; a normal of 1 x 1 px always fits."""
    if max(normal) == 1:
        return True
    ratio = diffuse[0] * normal[1] / (diffuse[1] * normal[0])
    return 1 / _SAME_SHAPE <= ratio <= _SAME_SHAPE

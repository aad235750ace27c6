"""The pairs of an input tree that can be converted, by the sizes in their headers; no pixels are read."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pbrlib.errors import DataError
from pbrlib.textures.decode import read_size
from pbrlib.textures.pairs import Aside, Fate, Listing, Pair, find_pairs

MAX_SIDE = 2048
"""Pixels of the longest side that is converted in one pass."""


def find_textures(source: Path) -> Listing:
    """Lists the textures of a tree, those that are too large or have a broken header put aside.

    Args:
        source: a game's ``Data`` folder (with ``textures/`` in it, any case) or a texture folder itself.

    Raises:
        DataError: no such folder, or no texture file in it.
    """
    listing = find_pairs(source)
    measured = [_measured(listing.root, pair) for pair in listing.pairs]
    asides = [*listing.asides, *(one for one in measured if isinstance(one, Aside))]
    return Listing(
        listing.root,
        tuple(one for one in measured if isinstance(one, Pair)),
        tuple(sorted(asides, key=lambda aside: aside.path.as_posix().lower())),
    )


def _measured(root: Path, pair: Pair) -> Pair | Aside:
    """The pair itself, or why its headers forbid to convert it."""
    relative = PurePosixPath(pair.diffuse.relative_to(root).as_posix())
    try:
        sizes = [read_size(pair.diffuse), read_size(pair.normal)]
    except DataError as error:
        return Aside(relative, Fate.FAILED, str(error))
    height, width = sizes[0]
    if max(height, width) > MAX_SIDE:
        return Aside(relative, Fate.OVERSIZE, f"{width} x {height} px, at most {MAX_SIDE} are converted")
    if max(sizes[1]) > 2 * MAX_SIDE:
        return Aside(
            relative, Fate.OVERSIZE, f"its normal has {max(sizes[1])} px, at most {2 * MAX_SIDE} are read"
        )
    return pair

"""Finds the texture root, the folder that a game resolves texture paths from.

The root may be in, below or above the given folder. Meshes name a texture by its path below ``textures``;
with another root, a conversion would write paths that match no mesh.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pbrlib.errors import DataError
from pbrlib.skyrim import DATA_FILES
from pbrlib.textures.treefiles import archives_in, subfolders_named

TEXTURE_FOLDER = "textures"

_MAX_DEPTH = 6
"""Number of levels below a given folder that are searched; a Steam library with its game needs five."""

_MAX_SHOWN = 8


@dataclass(frozen=True)
class TextureRoot:
    """The texture root, and the given part of it.

    Attributes:
        root: The folder that texture paths are relative to.
        start: The root itself, or the given folder inside the root.
        archives: Archives between the given folder and the root.
        note: How the root was found; empty if it is directly in the given folder.
    """

    root: Path
    start: Path
    archives: tuple[Path, ...] = ()
    note: str = ""


def find_texture_root(source: Path) -> TextureRoot:
    """Find the texture root of a game, a mod, or a folder inside either.

    The root is the first that exists of: a ``textures`` folder directly in the given folder; a ``textures``
    folder that contains the given folder; the only ``textures`` folder below it; the given folder itself.

    Raises:
        DataError: The folder does not exist, or several folders may be the root; the message names them.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give the folder that contains the textures.")
    direct = subfolders_named(source, TEXTURE_FOLDER)
    if direct:
        return _require_single(source, direct)
    above = _find_above(Path(os.path.abspath(source))) or _find_above(source.resolve())  # noqa: PTH100, keeps links
    if above is not None:
        root, start = above
        note = "" if root == start else f"{source} is inside {root}, so texture paths are relative to {root}"
        return TextureRoot(root, start, note=note)
    below = list(_find_below(source, depth=_MAX_DEPTH))
    if below:
        return _require_single(source, below)
    note = f"no folder named {TEXTURE_FOLDER} in or above {source}, so texture paths are relative to {source}"
    return TextureRoot(source, source, note=note)


def _require_single(source: Path, candidates: list[Path]) -> TextureRoot:
    if len(candidates) > 1:
        named = ", ".join(str(path) for path in candidates[:_MAX_SHOWN])
        more = f" and {len(candidates) - _MAX_SHOWN} more" if len(candidates) > _MAX_SHOWN else ""
        raise DataError(
            f"{source}: got {len(candidates)} folders named {TEXTURE_FOLDER} ({named}{more}); expected one, "
            "since the load order of mods decides which file the game uses. Give one of them."
        )
    root = candidates[0]
    between = [parent for parent in root.parents if parent == source or source in parent.parents]
    archives = tuple(path for folder in reversed(between) for path in archives_in(folder))
    note = "" if root.parent == source else f"texture paths are relative to {root}"
    return TextureRoot(root, root, archives, note)


def _find_above(start: Path) -> tuple[Path, Path] | None:
    """Return the ``textures`` folder that is or contains a folder, and that folder; None if there is none.

    Of several, the outermost one whose parent is a data folder of the game is returned, else the innermost
    one.
    """
    named = [path for path in (start, *start.parents) if path.name.lower() == TEXTURE_FOLDER]
    if not named:
        return None
    return next((path for path in reversed(named) if _is_data_folder(path.parent)), named[0]), start


def _is_data_folder(folder: Path) -> bool:
    if folder.name.lower() == "data":
        return True
    return any(
        path.suffix.lower() in DATA_FILES or path.name.lower() == "meshes" for path in folder.iterdir()
    )


def _find_below(folder: Path, *, depth: int) -> Iterator[Path]:
    """Yield folders named ``textures`` below a folder, without searching inside them."""
    with os.scandir(folder) as entries:
        subfolders = sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))
    for path in subfolders:
        if path.name.lower() == TEXTURE_FOLDER:
            yield path
        elif depth > 1:
            try:
                yield from _find_below(path, depth=depth - 1)
            except PermissionError:
                continue

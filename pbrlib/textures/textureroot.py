"""The folder that a game's texture paths begin at: in, below or above the folder that is given.

Meshes name a texture by its path below ``textures``. Read at another folder, a conversion would write paths
that match no mesh.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pbrlib.errors import DataError
from pbrlib.skyrim import DATA_FILES
from pbrlib.textures.treefiles import archives_in, subfolders_named

NAME = "textures"

_DEPTH = 6
"""Levels below a given folder that are searched: a Steam library with its game needs five."""

_SHOWN = 8


@dataclass(frozen=True)
class TextureRoot:
    """Where texture paths begin, and what of it was asked for.

    Attributes:
        root: Paths are relative to this folder.
        start: The root itself, or the folder below it that was given.
        archives: Archives between the given folder and the root.
        note: How the root was found where the given folder does not say it; empty if it does.
    """

    root: Path
    start: Path
    archives: tuple[Path, ...] = ()
    note: str = ""


def find_texture_root(source: Path) -> TextureRoot:
    """Finds the texture root of a game, of a mod, or of a folder of either.

    A ``textures`` folder directly in the given one is the root; else the folder of that name that the given
    one lies in; else the only one below it; else the given folder itself.

    Raises:
        DataError: No such folder, or several folders that may be the root: the message names them.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give the folder with the textures.")
    direct = subfolders_named(source, NAME)
    if direct:
        return _only(source, direct)
    above = _above(Path(os.path.abspath(source))) or _above(source.resolve())  # noqa: PTH100, keeps links
    if above is not None:
        root, start = above
        note = "" if root == start else f"{source} lies in {root}, so texture paths begin there"
        return TextureRoot(root, start, note=note)
    below = list(_below(source, depth=_DEPTH))
    if below:
        return _only(source, below)
    note = f"no folder named {NAME} in or above {source}, so texture paths are taken to begin in it"
    return TextureRoot(source, source, note=note)


def _only(source: Path, candidates: list[Path]) -> TextureRoot:
    if len(candidates) > 1:
        named = ", ".join(str(path) for path in candidates[:_SHOWN])
        more = f" and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
        raise DataError(
            f"{source}: got {len(candidates)} folders named {NAME} ({named}{more}); expected one, since the "
            "order of mods says which file wins. Give one of them."
        )
    root = candidates[0]
    between = [parent for parent in root.parents if parent == source or source in parent.parents]
    archives = tuple(path for folder in reversed(between) for path in archives_in(folder))
    note = "" if root.parent == source else f"texture paths begin in {root}"
    return TextureRoot(root, root, archives, note)


def _above(start: Path) -> tuple[Path, Path] | None:
    """The ``textures`` folder that a folder is or lies in, and the folder; None outside of any.

    Of several the outermost whose parent looks like what the game loads, else the innermost.
    """
    named = [path for path in (start, *start.parents) if path.name.lower() == NAME]
    if not named:
        return None
    return next((path for path in reversed(named) if _is_data(path.parent)), named[0]), start


def _is_data(folder: Path) -> bool:
    if folder.name.lower() == "data":
        return True
    return any(
        path.suffix.lower() in DATA_FILES or path.name.lower() == "meshes" for path in folder.iterdir()
    )


def _below(folder: Path, *, depth: int) -> Iterator[Path]:
    """Folders named ``textures`` below a folder; what lies in one of them is not searched."""
    with os.scandir(folder) as entries:
        subfolders = sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))
    for path in subfolders:
        if path.name.lower() == NAME:
            yield path
        elif depth > 1:
            try:
                yield from _below(path, depth=depth - 1)
            except PermissionError:
                continue

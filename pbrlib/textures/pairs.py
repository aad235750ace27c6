"""Lists the pairs of diffuse and normal in a texture tree, and the left-out files with a reason.

Only file names are used; neither headers nor pixels are read.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pbrlib.errors import DataError
from pbrlib.skyrim import OTHER_FOLDERS, PBR_FOLDER, TOP_FOLDERS
from pbrlib.textures.decode import SUFFIXES
from pbrlib.textures.leftout import LeftOutFile, Outcome, sorted_left_out
from pbrlib.textures.matching import Pair, match_folder
from pbrlib.textures.textureroot import TextureRoot, find_texture_root
from pbrlib.textures.treefiles import TreeFiles, tree_files, unread_reason

_SUFFIX_LIST = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


@dataclass(frozen=True)
class Listing:
    """The files of a texture tree: root, pairs sorted by name, left-out files, and notes on the root."""

    root: Path
    pairs: tuple[Pair, ...]
    left_out: tuple[LeftOutFile, ...]
    notes: tuple[str, ...] = ()


def find_pairs(source: Path) -> Listing:
    """List the pairs and the other files of a texture tree by their names.

    Args:
        source: The folder of a game or mod, its texture folder, or a folder inside the texture folder; see
            `pbrlib.textures.textureroot`. Only files in this folder are listed.

    Raises:
        DataError: The folder does not exist, contains several texture folders, or contains no texture.
    """
    found = find_texture_root(source)
    files = tree_files(found.root, start=found.start)
    left_out = [*files.left_out, *_files_outside_root(source, found)]
    if not files.textures:
        raise DataError(_no_texture_message(found, left_out))
    folders: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in files.textures:
        file = _left_out_by_folder(path)
        if file is None:
            folders[path.parent.as_posix().lower()].append(path)
        else:
            left_out.append(file)
    unread = _unread_by_folder(files)
    pairs: list[Pair] = []
    for folder, paths in folders.items():
        for match in match_folder(found.root, paths, unread=unread.get(folder, {})):
            if isinstance(match, Pair):
                pairs.append(match)
            else:
                left_out.append(match)
    return Listing(
        found.root,
        tuple(sorted(pairs, key=lambda pair: pair.name.as_posix().lower())),
        sorted_left_out(left_out),
        (found.note,) if found.note else (),
    )


def _files_outside_root(source: Path, found: TextureRoot) -> Iterator[LeftOutFile]:
    """Yield possible textures in the given folder that are outside of the texture root."""
    for archive in found.archives:
        yield LeftOutFile(_relative_path(found.root, archive), Outcome.UNREAD, unread_reason(archive))
    if source in found.root.parents and source != found.root.parent:
        reason = f"outside of {found.root}; the game reads no textures there. Give its folder as INPUT"
        for path in tree_files(source, start=source).textures:
            if path.suffix.lower() == SUFFIXES[0] and found.root not in (source / path).parents:
                yield LeftOutFile(_relative_path(found.root, source / path), Outcome.UNREAD, reason)


def _relative_path(root: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(os.path.relpath(path, root))


def _no_texture_message(found: TextureRoot, left_out: list[LeftOutFile]) -> str:
    """Return the error message of a tree without textures, with the archives or pictures in it."""
    seen = [file for file in left_out if file.outcome is Outcome.UNREAD]
    if not seen:
        return f"{found.start}: got no {_SUFFIX_LIST} file. Give the folder that contains the textures."
    more = f" and {len(seen) - 1} more" if len(seen) > 1 else ""
    first = seen[0]
    return f"{found.start}: got no {_SUFFIX_LIST} file, but {first.path.name}{more}: {first.reason}."


def _unread_by_folder(files: TreeFiles) -> dict[str, dict[str, str]]:
    """Return the names of unsupported files by folder and stem, both in lower case."""
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for file in files.left_out:
        folders[file.path.parent.as_posix().lower()][file.path.stem.lower()] = file.path.name
    return folders


def _left_out_by_folder(path: PurePosixPath) -> LeftOutFile | None:
    """Return the left-out file of a texture whose folder holds no materials, else None."""
    folders = path.parts[:-1]
    for part in folders:
        name = part.lower()
        if name == PBR_FOLDER:
            return LeftOutFile(path, Outcome.KEPT, f"in {part}/: an existing True PBR set")
        content = OTHER_FOLDERS.get(name, "LOD" if name.endswith("_lod") else "")
        if content:
            return LeftOutFile(path, Outcome.SKIPPED, f"in {part}/: {content}")
    content = TOP_FOLDERS.get(folders[0].lower(), "") if folders else ""
    return LeftOutFile(path, Outcome.SKIPPED, f"in {folders[0]}/: {content}") if content else None

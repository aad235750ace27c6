"""What lies in a texture tree: diffuse/normal pairs, and every other texture with the reason it is left out.

Only names are read here, neither headers nor pixels.
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

_ENDINGS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


@dataclass(frozen=True)
class Listing:
    """The texture root, its pairs sorted by name, the files left out, and remarks on the root."""

    root: Path
    pairs: tuple[Pair, ...]
    left_out: tuple[LeftOutFile, ...]
    notes: tuple[str, ...] = ()


def find_pairs(source: Path) -> Listing:
    """List the pairs and the other files of a texture tree by their names.

    Args:
        source: A game's or a mod's folder, its texture folder, or a folder in that; see
            `pbrlib.textures.textureroot`. Of a folder in the texture folder only what lies there is listed.

    Raises:
        DataError: No such folder, several that may be the texture folder, or no texture file in it.
    """
    found = find_texture_root(source)
    files = tree_files(found.root, start=found.start)
    left_out = [*files.left_out, *_around(source, found)]
    if not files.textures:
        raise DataError(_nothing(found, left_out))
    folders: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in files.textures:
        file = _not_a_material(path)
        if file is None:
            folders[path.parent.as_posix().lower()].append(path)
        else:
            left_out.append(file)
    unread = _unread_by_folder(files)
    pairs: list[Pair] = []
    for folder, paths in folders.items():
        for one in match_folder(found.root, paths, unread=unread.get(folder, {})):
            if isinstance(one, Pair):
                pairs.append(one)
            else:
                left_out.append(one)
    return Listing(
        found.root,
        tuple(sorted(pairs, key=lambda pair: pair.name.as_posix().lower())),
        sorted_left_out(left_out),
        (found.note,) if found.note else (),
    )


def _around(source: Path, found: TextureRoot) -> Iterator[LeftOutFile]:
    """Yield files that may be textures and lie outside of the texture root, in the given folder."""
    for archive in found.archives:
        yield LeftOutFile(_beside(found.root, archive), Outcome.UNREAD, unread_reason(archive))
    if source in found.root.parents and source != found.root.parent:
        reason = f"outside of {found.root}, where the game looks for nothing. Give its folder as INPUT"
        for path in tree_files(source, start=source).textures:
            if path.suffix.lower() == SUFFIXES[0] and found.root not in (source / path).parents:
                yield LeftOutFile(_beside(found.root, source / path), Outcome.UNREAD, reason)


def _beside(root: Path, path: Path) -> PurePosixPath:
    return PurePosixPath(os.path.relpath(path, root))


def _nothing(found: TextureRoot, left_out: list[LeftOutFile]) -> str:
    """Return the error message of a tree without textures, with the archives or pictures in it."""
    seen = [file for file in left_out if file.outcome is Outcome.UNREAD]
    if not seen:
        return f"{found.start}: no {_ENDINGS} file in it. Give the folder with the textures."
    more = f" and {len(seen) - 1} more" if len(seen) > 1 else ""
    first = seen[0]
    return f"{found.start}: no {_ENDINGS} file in it, but {first.path.name}{more}: {first.reason}."


def _unread_by_folder(files: TreeFiles) -> dict[str, dict[str, str]]:
    """The names of unread files by their folder and stem, both in lower case."""
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for file in files.left_out:
        folders[file.path.parent.as_posix().lower()][file.path.stem.lower()] = file.path.name
    return folders


def _not_a_material(path: PurePosixPath) -> LeftOutFile | None:
    """Return the left-out file of a texture whose folder holds no materials, else None."""
    folders = path.parts[:-1]
    for part in folders:
        name = part.lower()
        if name == PBR_FOLDER:
            return LeftOutFile(path, Outcome.KEPT, f"in {part}/: True PBR already")
        what = OTHER_FOLDERS.get(name, "LOD" if name.endswith("_lod") else "")
        if what:
            return LeftOutFile(path, Outcome.SKIPPED, f"in {part}/: {what}")
    what = TOP_FOLDERS.get(folders[0].lower(), "") if folders else ""
    return LeftOutFile(path, Outcome.SKIPPED, f"in {folders[0]}/: {what}") if what else None

"""True PBR sets that are there already, in the input or in the output: they are kept, not made again."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pbrlib.convert.truepbr import TEXTURES, is_written_here
from pbrlib.maps import TRUE_PBR
from pbrlib.skyrim import PBR_FOLDER
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.matching import Pair
from pbrlib.textures.treefiles import subfolder, texture_files

_ENDINGS = tuple(sorted({slot.ending for slot in TRUE_PBR.values() if slot.ending}))


def pbr_sets(root: Path) -> dict[str, str]:
    """A file of every True PBR set below a texture root, by the lower-case name of its texture."""
    folder = subfolder(root, PBR_FOLDER) if root.is_dir() else None
    if folder is None:
        return {}
    return {
        path.with_name(path.stem[: -len(ending)]).as_posix().lower(): f"{folder.name}/{path}"
        for path in texture_files(folder)
        for ending in _ENDINGS
        if path.stem.lower().endswith(ending) and len(path.stem) > len(ending)
    }


def kept(pair: Pair, sets: dict[str, str]) -> LeftOutFile | None:
    """Return the left-out file of a pair that has a True PBR set in the input, else None."""
    for name in (pair.name, pair.stem):
        there = sets.get(name.as_posix().lower())
        if there is not None:
            reason = f"a True PBR set is there already ({there}), which is kept"
            return LeftOutFile(diffuse_path(pair), Outcome.KEPT, reason)
    return None


def kept_in_output(pair: Pair, sets: dict[str, str], *, output: Path) -> LeftOutFile | None:
    """Return the left-out file of a pair with a set in the output that no conversion wrote, else None."""
    there = sets.get(pair.name.as_posix().lower())
    if there is None or is_written_here(output, pair.name):
        return None
    place = output / TEXTURES.parent / there
    reason = f"{place} is of a True PBR set of other origin, which is kept. Remove it to convert this one"
    return LeftOutFile(diffuse_path(pair), Outcome.KEPT, reason)


def diffuse_path(pair: Pair) -> PurePosixPath:
    """The path of a pair's diffuse, relative to the texture root."""
    return pair.stem.with_name(pair.diffuse.name)

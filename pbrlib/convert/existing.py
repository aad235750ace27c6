"""True PBR sets that are there already, , not made again."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pbrlib.convert.truepbr import TEXTURES, is_written_here
from pbrlib.maps import TRUE_PBR
from pbrlib.skyrim import PBR_FOLDER
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.matching import Pair
from pbrlib.textures.treefiles import subfolder, texture_files

_SUFFIXES = tuple(sorted({slot.ending for slot in TRUE_PBR.values() if slot.ending}))


def pbr_sets(root: Path) -> dict[str, str]:
    """Return one file of every True PBR set below a texture root, by lower-case name of the texture."""
    folder = subfolder(root, PBR_FOLDER) if root.is_dir() else None
    if folder is None:
        return {}
    return {
        path.with_name(path.stem[: -len(ending)]).as_posix().lower(): f"{folder.name}/{path}"
        for path in texture_files(folder)
        for ending in _SUFFIXES
        if path.stem.lower().endswith(ending) and len(path.stem) > len(ending)
    }


def left_out_if_in_input(pair: Pair, sets: dict[str, str]) -> LeftOutFile | None:
    """Return the left-out file of a pair that has a True PBR set in the input, else None."""
    for name in (pair.name, pair.stem):
        existing = sets.get(name.as_posix().lower())
        if existing is not None:
            reason = f"the input has a True PBR set of it ({existing}), which is kept"
            return LeftOutFile(diffuse_path(pair), Outcome.KEPT, reason)
    return None


def left_out_if_in_output(pair: Pair, sets: dict[str, str], *, output: Path) -> LeftOutFile | None:
    """Return the left-out file of a pair with a set in the output that no conversion wrote, else None."""
    existing = sets.get(pair.name.as_posix().lower())
    if existing is None or is_written_here(output, pair.name):
        return None
    place = output / TEXTURES.parent / existing
    reason = (
        f"{place} belongs to a True PBR set of other origin, which is kept. Remove it to convert this pair"
    )
    return LeftOutFile(diffuse_path(pair), Outcome.KEPT, reason)


def diffuse_path(pair: Pair) -> PurePosixPath:
    """Return the path of a pair's diffuse, relative to the texture root."""
    return pair.stem.with_name(pair.diffuse.name)

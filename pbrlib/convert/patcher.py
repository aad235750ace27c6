"""What PGPatcher, which makes the game's meshes name the textures that are written, does not take.

Facts of its source (2026): it skips paths outside ASCII and hidden files; of the name in a JSON it drops what
follows the last dot; it patches the lighting shader of meshes, not grass, water, effects, decals or land.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from pbrlib.convert.existing import diffuse_path
from pbrlib.convert.truepbr import TEXTURES
from pbrlib.maps import TRUE_PBR
from pbrlib.skyrim import OTHER_FOLDERS, PBR_FOLDER
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.matching import Pair

_LONGEST = 259
"""Characters of a path that Windows, the game and its patcher open."""

_FORBIDDEN = '<>:"|?*\\'
"""Characters that a file name of Windows cannot have."""

_FOLDERS = {
    "grass": "grass, which the patcher leaves alone",
    "hair": "hair, whose tint the patcher would drop",
    "water": "water, which has a shader of its own",
    "magic": "magic, whose effects have a shader of their own",
    "blood": "blood, which is drawn as decals, and those the patcher leaves alone",
    "decals": "decals, which the patcher leaves alone",
}

_LAND = "landscape"


def is_set_aside(folder: str) -> bool:
    """Whether textures in a folder of this name, at any depth, are not converted."""
    name = folder.lower()
    return name == PBR_FOLDER or name.endswith("_lod") or name in {**_FOLDERS, **OTHER_FOLDERS}


def refused(pair: Pair) -> LeftOutFile | None:
    """Return the diffuse as a left-out file if the patcher does not accept the converted pair, else None."""
    path = diffuse_path(pair)
    for part in pair.stem.parts[:-1]:
        if part.lower() in _FOLDERS:
            return LeftOutFile(path, Outcome.SKIPPED, f"in {part}/: {_FOLDERS[part.lower()]}")
    problem = _name_problem(pair)
    return LeftOutFile(path, Outcome.REFUSED, problem) if problem else None


def land_note(pairs: Iterable[Pair]) -> str:
    """What the patcher leaves to the user of the land's textures; empty if there are none."""
    count = Counter(pair.name.parts[0].lower() for pair in pairs)[_LAND]
    if not count:
        return ""
    return (
        f"{count} in {_LAND}/: the patcher patches meshes that use them; for the ground itself a texture set "
        "(TXST) of a plugin has to name the converted files"
    )


def _name_problem(pair: Pair) -> str:
    rename = "Rename the texture and what names it"
    if not str(pair.stem).isascii():
        return f"its path is not all ASCII, and the patcher skips such files. {rename}"
    if "." in pair.stem.name:
        return f"its name has a dot, after which the patcher reads no further. {rename}"
    if any(part.startswith(".") for part in pair.stem.parts):
        return f"its folder begins with a dot, and the patcher skips hidden ones. {rename}"
    bad = sorted({letter for letter in str(pair.stem) if letter in _FORBIDDEN or ord(letter) < 32})
    if bad or any(part != part.rstrip(" .") for part in pair.stem.parts):
        return (
            f"its path has {' '.join(map(repr, bad)) or 'a blank at an end'}, which Windows forbids. {rename}"
        )
    length = max(len(_written(pair.name, slot.ending)) for slot in TRUE_PBR.values())
    if length > _LONGEST:
        return f"its path would have {length} characters; the game opens {_LONGEST} at most. {rename}"
    return ""


def _written(name: PurePosixPath, ending: str) -> str:
    return str(TEXTURES / f"{name}{ending}.dds")

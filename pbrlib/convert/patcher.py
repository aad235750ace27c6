"""Leaves out textures that PGPatcher, which patches the game's meshes to use the converted textures, rejects.

From its source code (2026): it skips hidden files and paths with non-ASCII characters; it cuts the name in a
JSON at the last dot; it patches the lighting shader of meshes only, so grass, water, effects, decals and
landscape are not patched.
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

_MAX_PATH_LENGTH = 259
"""Maximum number of characters of a path that Windows, the game and the patcher can open."""

_FORBIDDEN = '<>:"|?*\\'
"""Characters that are not allowed in file names on Windows."""

_UNCONVERTED_FOLDERS = {
    "grass": "grass, which the patcher does not patch",
    "hair": "hair, which would lose its tint",
    "water": "water, which has its own shader",
    "magic": "magic effects, which have their own shader",
    "blood": "blood decals, which the patcher does not patch",
    "decals": "decals, which the patcher does not patch",
}

_LANDSCAPE = "landscape"


def is_unconverted_folder(folder: str) -> bool:
    """Return whether textures in a folder of this name are not converted, at any depth."""
    name = folder.lower()
    return name == PBR_FOLDER or name.endswith("_lod") or name in {**_UNCONVERTED_FOLDERS, **OTHER_FOLDERS}


def left_out_by_patcher(pair: Pair) -> LeftOutFile | None:
    """Return the diffuse as a left-out file if the patcher does not accept the converted pair, else None."""
    path = diffuse_path(pair)
    for part in pair.stem.parts[:-1]:
        if part.lower() in _UNCONVERTED_FOLDERS:
            return LeftOutFile(path, Outcome.SKIPPED, f"in {part}/: {_UNCONVERTED_FOLDERS[part.lower()]}")
    problem = _name_problem(pair)
    return LeftOutFile(path, Outcome.REFUSED, problem) if problem else None


def landscape_note(pairs: Iterable[Pair]) -> str:
    """Return a note on the manual step for landscape textures; empty if there are none."""
    count = Counter(pair.name.parts[0].lower() for pair in pairs)[_LANDSCAPE]
    if not count:
        return ""
    return (
        f"{count} in {_LANDSCAPE}/: the patcher patches only meshes that use them; for the ground, a texture "
        "set (TXST) of a plugin has to name the converted files"
    )


def _name_problem(pair: Pair) -> str:
    rename = "Rename the texture and update the files that name it"
    if not str(pair.stem).isascii():
        return f"its path has non-ASCII characters, and the patcher skips such files. {rename}"
    if "." in pair.stem.name:
        return f"its name has a dot, at which the patcher cuts it. {rename}"
    if any(part.startswith(".") for part in pair.stem.parts):
        return f"its folder begins with a dot, and the patcher skips hidden folders. {rename}"
    bad = sorted({letter for letter in str(pair.stem) if letter in _FORBIDDEN or ord(letter) < 32})
    if bad or any(part != part.rstrip(" .") for part in pair.stem.parts):
        found = " ".join(map(repr, bad)) or "a final space or dot"
        return f"its path has {found}, which Windows forbids. {rename}"
    length = max(len(_output_path(pair.name, slot.ending)) for slot in TRUE_PBR.values())
    if length > _MAX_PATH_LENGTH:
        return f"its path would have {length} characters; expected at most {_MAX_PATH_LENGTH}. {rename}"
    return ""


def _output_path(name: PurePosixPath, ending: str) -> str:
    return str(TEXTURES / f"{name}{ending}.dds")

"""What lies in a texture tree: diffuse/normal pairs, and every other texture with the reason it is left out.

Only names are read here, neither headers nor pixels.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from pbrlib.errors import DataError
from pbrlib.skyrim import DIFFUSE_SUFFIXES, NORMAL_SUFFIXES, OTHER_FOLDERS, OTHER_SUFFIXES
from pbrlib.textures.decode import SUFFIXES


class Fate(StrEnum):
    """Why a texture file is left out."""

    UNPAIRED = "unpaired"
    SKIPPED = "skipped"
    OVERSIZE = "oversize"
    FAILED = "failed"


@dataclass(frozen=True)
class Aside:
    """A file that makes no pair, relative to the texture root, and why."""

    path: PurePosixPath
    fate: Fate
    reason: str


@dataclass(frozen=True)
class Pair:
    """A diffuse and its normal.

    ``name`` is the path of the diffuse without its ending, relative to the texture root; ``stem`` keeps
    ``_d`` and its like, since meshes name the diffuse by it.
    """

    name: PurePosixPath
    stem: PurePosixPath
    diffuse: Path
    normal: Path


@dataclass(frozen=True)
class Listing:
    """The texture root, the pairs sorted by name, and everything else."""

    root: Path
    pairs: tuple[Pair, ...]
    asides: tuple[Aside, ...]


def find_pairs(source: Path) -> Listing:
    """Lists the textures of a tree by their names.

    Args:
        source: a game's ``Data`` folder (with ``textures/`` in it, any case) or a texture folder itself.

    Raises:
        DataError: no such folder, or no texture file in it.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give the folder with the textures.")
    root = subfolder(source, "textures") or source
    asides: list[Aside] = []
    folders: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in texture_files(root):
        reason = _not_a_material(path)
        if reason:
            asides.append(Aside(path, Fate.SKIPPED, reason))
        else:
            folders[path.parent.as_posix().lower()].append(path)
    if not folders and not asides:
        raise DataError(f"{root}: no .dds or .png file in it. Give the folder with the textures.")
    pairs: list[Pair] = []
    for paths in folders.values():
        for found in _match(root, paths):
            if isinstance(found, Pair):
                pairs.append(found)
            else:
                asides.append(found)
    return Listing(
        root,
        tuple(sorted(pairs, key=lambda pair: pair.name.as_posix().lower())),
        tuple(sorted(asides, key=lambda aside: aside.path.as_posix().lower())),
    )


def subfolder(folder: Path, name: str) -> Path | None:
    """The folder of a (lower-case) name, whatever its case, directly below another; None if there is none."""
    return next(
        (path for path in sorted(folder.iterdir()) if path.name.lower() == name and path.is_dir()), None
    )


def texture_files(root: Path) -> Iterator[PurePosixPath]:
    """Every file below a folder whose ending is a texture's, relative to it, in a stable order."""
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES):
                yield PurePosixPath((Path(folder) / name).relative_to(root).as_posix())


def _not_a_material(path: PurePosixPath) -> str:
    for part in path.parts[:-1]:
        what = OTHER_FOLDERS.get(part.lower(), "LOD" if part.lower().endswith("_lod") else "")
        if what:
            return f"in {part}/: {what}"
    stem = path.stem.lower()
    if stem.endswith("_lod"):
        return "_lod: LOD"
    ending = stem[stem.rfind("_") :] if "_" in stem else ""
    return f"{ending}: {OTHER_SUFFIXES[ending]}" if ending in OTHER_SUFFIXES else ""


def _rank(path: PurePosixPath) -> tuple[int, str]:
    return SUFFIXES.index(path.suffix.lower()), path.name


def _ending(stem: str, endings: tuple[str, ...]) -> str | None:
    return next((e for e in endings if e and stem.endswith(e) and len(stem) > len(e)), None)


def _match(root: Path, paths: list[PurePosixPath]) -> Iterator[Pair | Aside]:
    """Pairs the files of one folder; of several that could be the same map the first is taken."""
    normals: dict[str, PurePosixPath] = {}
    diffuses: list[tuple[int, tuple[int, str], PurePosixPath]] = []
    for path in sorted(paths, key=_rank):
        stem = path.stem.lower()
        ending = _ending(stem, NORMAL_SUFFIXES)
        if ending is None:
            kind = DIFFUSE_SUFFIXES.index(_ending(stem, DIFFUSE_SUFFIXES) or "")
            diffuses.append((kind, _rank(path), path))
        elif stem.removesuffix(ending) in normals:
            taken = normals[stem.removesuffix(ending)]
            yield Aside(path, Fate.UNPAIRED, f"{taken.name} is taken as the normal of this name")
        else:
            normals[stem.removesuffix(ending)] = path
    pairs: dict[str, Pair] = {}
    for kind, _, path in sorted(diffuses):
        stem = path.stem
        short = stem[: len(stem) - len(DIFFUSE_SUFFIXES[kind])]
        base = next((b for b in (short, stem) if b.lower() in normals), None)
        if base is None:
            yield Aside(path, Fate.UNPAIRED, f"no normal beside it ({short}_n)")
        elif base.lower() in pairs:
            taken = PurePosixPath(pairs[base.lower()].diffuse.name)
            yield Aside(path, Fate.UNPAIRED, f"{taken.name} is taken as the diffuse of this name")
        else:
            pairs[base.lower()] = Pair(
                path.with_name(base), path.with_name(stem), root / path, root / normals[base.lower()]
            )
    for base, path in normals.items():
        if base not in pairs:
            yield Aside(path, Fate.UNPAIRED, "no diffuse beside it")
    yield from pairs.values()

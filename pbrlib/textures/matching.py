"""Matches the diffuse and the normal of each texture in a folder by file names.

Files beside a texture count more than its suffix: if ``robe_f_n`` exists, ``robe_f`` is a diffuse instead of
a fuzz map. A diffuse without its own normal takes the normal of its base name: ``robe_red`` takes ``robe_n``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pbrlib.skyrim import DIFFUSE_SUFFIXES, GLOW_SUFFIX, NORMAL_SUFFIXES, OTHER_SUFFIXES
from pbrlib.textures.decode import SUFFIXES
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.treefiles import SAVE_ADVICE

_LOD, _MODEL_SPACE = "_lod", "_msn"


@dataclass(frozen=True)
class Pair:
    """A diffuse and its normal.

    Attributes:
        name: Path of the diffuse without suffixes such as ``_d`` and ``.dds``, relative to the texture root.
        stem: Path of the diffuse without ``.dds``, by which meshes name it, relative to the texture root.
        diffuse: File of the diffuse.
        normal: File of the normal map.
        shared: Whether the normal has the name of another variant, so that it may not fit this diffuse.
        glow: File of the glow map (emitted light), or None.
    """

    name: PurePosixPath
    stem: PurePosixPath
    diffuse: Path
    normal: Path
    shared: bool = False
    glow: Path | None = None


def match_folder(
    root: Path, paths: list[PurePosixPath], *, unread: Mapping[str, str]
) -> Iterator[Pair | LeftOutFile]:
    """Yield the pairs and the left-out files of a folder.

    Args:
        root: The texture root.
        paths: The textures of the folder, relative to the texture root.
        unread: Names of unsupported pictures in the folder by lower-case stem.
    """
    stems: dict[str, PurePosixPath] = {}
    for path in sorted(paths, key=_preference):
        taken = stems.setdefault(path.stem.lower(), path)
        if taken is not path:
            yield LeftOutFile(path, Outcome.SKIPPED, f"{taken.name} has the same name and is read instead")
    yield from _Folder(root, stems, unread).match()


def _preference(path: PurePosixPath) -> tuple[int, str]:
    return SUFFIXES.index(path.suffix.lower()), path.name


def _suffix_of(stem: str, endings: tuple[str, ...]) -> str:
    """Return the suffix of a lower-case stem; empty if it has none of them or consists of the suffix only."""
    return next((e for e in endings if e and stem.endswith(e) and len(stem) > len(e)), "")


@dataclass(frozen=True)
class _Folder:
    """The textures of a folder by lower-case stem, and its unsupported pictures."""

    root: Path
    stems: Mapping[str, PurePosixPath]
    unread: Mapping[str, str]

    def match(self) -> Iterator[Pair | LeftOutFile]:
        used: set[str] = set()
        normals = dict.fromkeys(stem for stem in self.stems if self._is_normal(stem))
        others = [stem for stem in self.stems if stem not in normals]
        diffuses = dict.fromkeys(stem for stem in others if self._is_diffuse(stem))
        for stem in diffuses:
            pair = self._pair(stem, diffuses)
            if pair is None:
                yield self._without_normal(stem)
            else:
                used |= {path.stem.lower() for path in (pair.normal, pair.glow) if path is not None}
                yield pair
        for stem in normals:
            if stem not in used:
                yield self._without_diffuse(stem)
        for stem in others:
            if stem not in diffuses and stem not in used:
                yield self._left_out_other(stem, diffuses)

    def _is_normal(self, stem: str) -> bool:
        """Return whether a file has the suffix of a normal and is not the diffuse of another normal."""
        ending = _suffix_of(stem, NORMAL_SUFFIXES)
        if not ending:
            return False
        base = stem.removesuffix(ending)
        return any(base + diffuse in self.stems for diffuse in DIFFUSE_SUFFIXES) or not self._own_normal(stem)

    def _is_diffuse(self, stem: str) -> bool:
        if stem.endswith(_LOD):
            return False
        return bool(self._own_normal(stem)) or not _suffix_of(stem, tuple(OTHER_SUFFIXES))

    def _own_normal(self, stem: str) -> str:
        return next((stem + ending for ending in NORMAL_SUFFIXES if stem + ending in self.stems), "")

    def _pair(self, stem: str, diffuses: Collection[str]) -> Pair | None:
        """Return a diffuse with its own normal, the normal of its name without ``_d``, or a shared normal."""
        path = self.stems[stem]
        short = stem.removesuffix(_suffix_of(stem, DIFFUSE_SUFFIXES))
        base, normal = stem, self._own_normal(stem)
        if not normal:
            normal = self._own_normal(short)
            # If a file with the short name exists too, meshes may name both: that file has the short name.
            base = stem if short in diffuses else short
        shared = not normal
        if shared:
            base, normal = stem, self._shared_normal(short)
        if not normal:
            return None
        glows = (name + GLOW_SUFFIX for name in (stem, short))
        glow = next((g for g in glows if g in self.stems and g not in diffuses), None)
        return Pair(
            path.with_name(path.stem[: len(base)]),
            path.with_name(path.stem),
            self.root / path,
            self.root / self.stems[normal],
            shared,
            None if glow is None else self.root / self.stems[glow],
        )

    def _shared_normal(self, stem: str) -> str:
        """Return the normal of the longest prefix that ends before an underscore; empty if none."""
        base = stem.rpartition("_")[0]
        while base:
            if normal := self._own_normal(base):
                return normal
            base = base.rpartition("_")[0]
        return ""

    def _without_normal(self, stem: str) -> LeftOutFile:
        path = self.stems[stem]
        short = stem.removesuffix(_suffix_of(stem, DIFFUSE_SUFFIXES))
        for name in (stem + _MODEL_SPACE, short + _MODEL_SPACE):
            if name in self.stems:
                reason = f"model-space normals ({self.stems[name].name}), which are not converted"
                return LeftOutFile(path, Outcome.SKIPPED, reason)
        names = (self.unread.get(base + ending) for base in (stem, short) for ending in NORMAL_SUFFIXES)
        for unread in filter(None, names):
            return LeftOutFile(
                path, Outcome.UNPAIRED, f"its normal {unread} has an unsupported format. {SAVE_ADVICE}"
            )
        wanted = path.stem[: len(short)] + NORMAL_SUFFIXES[0]
        reason = f"no normal beside it; expected {wanted}. Add it; 1 x 1 px are enough for a flat surface"
        return LeftOutFile(path, Outcome.UNPAIRED, reason)

    def _without_diffuse(self, stem: str) -> LeftOutFile:
        path = self.stems[stem]
        base = stem.removesuffix(_suffix_of(stem, NORMAL_SUFFIXES))
        if base.endswith(_LOD):
            return LeftOutFile(path, Outcome.SKIPPED, f"{_LOD}: LOD")
        for unread in filter(None, (self.unread.get(base + ending) for ending in DIFFUSE_SUFFIXES)):
            return LeftOutFile(
                path, Outcome.UNPAIRED, f"its diffuse {unread} has an unsupported format. {SAVE_ADVICE}"
            )
        reason = "no diffuse beside it. If it is in an archive, unpack it into this folder"
        return LeftOutFile(path, Outcome.UNPAIRED, reason)

    def _left_out_other(self, stem: str, diffuses: Collection[str]) -> LeftOutFile:
        """Return the left-out file of a texture that its suffix declares as another kind of map."""
        path = self.stems[stem]
        if stem.endswith(_LOD):
            return LeftOutFile(path, Outcome.SKIPPED, f"{_LOD}: LOD")
        ending = _suffix_of(stem, tuple(OTHER_SUFFIXES))
        reason = f"{ending}: {OTHER_SUFFIXES[ending]}"
        base = stem.removesuffix(ending)
        if any(base + diffuse in diffuses for diffuse in DIFFUSE_SUFFIXES):
            return LeftOutFile(path, Outcome.SKIPPED, reason)
        own = path.stem + NORMAL_SUFFIXES[0]
        return LeftOutFile(
            path, Outcome.SKIPPED, f"{reason}, by its name. If it is a diffuse, add its normal {own}"
        )

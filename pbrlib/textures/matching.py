"""Which files of one folder are the diffuse and the normal of a texture.

What lies beside a file weighs more than how it ends: with a normal of its own, ``robe_f`` is a diffuse and
not a fuzz map. A diffuse without one takes the normal that variants share: ``robe_red`` takes ``robe_n``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pbrlib.skyrim import DIFFUSE_SUFFIXES, GLOW_SUFFIX, NORMAL_SUFFIXES, OTHER_SUFFIXES
from pbrlib.textures.decode import SUFFIXES
from pbrlib.textures.leftout import LeftOutFile, Outcome
from pbrlib.textures.treefiles import SAVE

_LOD, _MODEL_SPACE = "_lod", "_msn"


@dataclass(frozen=True)
class Pair:
    """A diffuse and its normal.

    Attributes:
        name: Path of the diffuse without its ending, relative to the texture root.
        stem: The same with ``_d`` and its like, since meshes name the diffuse by it.
        diffuse: The file.
        normal: The file.
        shared: Whether the normal bears the name of another variant, so that it may not be this one's.
        glow: The file of the map that says where the material shines, or None.
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
    """Pairs the files of one folder.

    Args:
        root: The texture root, which paths are relative to.
        paths: The textures of the folder.
        unread: Names of other pictures in the folder by their lower-case stems.
    """
    stems: dict[str, PurePosixPath] = {}
    for path in sorted(paths, key=_rank):
        taken = stems.setdefault(path.stem.lower(), path)
        if taken is not path:
            yield LeftOutFile(path, Outcome.SKIPPED, f"{taken.name} is read instead, which has the same name")
    yield from _Folder(root, stems, unread).match()


def _rank(path: PurePosixPath) -> tuple[int, str]:
    return SUFFIXES.index(path.suffix.lower()), path.name


def _ending(stem: str, endings: tuple[str, ...]) -> str:
    """The ending of a lower-case stem, empty if it has none of them or nothing before it."""
    return next((e for e in endings if e and stem.endswith(e) and len(stem) > len(e)), "")


@dataclass(frozen=True)
class _Folder:
    """The textures of a folder by lower-case stem."""

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
                yield self._other(stem, diffuses)

    def _is_normal(self, stem: str) -> bool:
        """Whether a file is a normal: by its ending, unless it is only read as the diffuse of another."""
        ending = _ending(stem, NORMAL_SUFFIXES)
        if not ending:
            return False
        base = stem.removesuffix(ending)
        return any(base + diffuse in self.stems for diffuse in DIFFUSE_SUFFIXES) or not self._own_normal(stem)

    def _is_diffuse(self, stem: str) -> bool:
        if stem.endswith(_LOD):
            return False
        return bool(self._own_normal(stem)) or not _ending(stem, tuple(OTHER_SUFFIXES))

    def _own_normal(self, stem: str) -> str:
        return next((stem + ending for ending in NORMAL_SUFFIXES if stem + ending in self.stems), "")

    def _pair(self, stem: str, diffuses: Collection[str]) -> Pair | None:
        """The pair of a diffuse: with its own normal, that of its name without ``_d``, or a shared one."""
        path = self.stems[stem]
        short = stem.removesuffix(_ending(stem, DIFFUSE_SUFFIXES))
        base, normal = stem, self._own_normal(stem)
        if not normal:
            normal = self._own_normal(short)
            # Both files may be named by meshes: the plain one has the short name.
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
        """The normal of the longest name that this one continues after an underscore."""
        base = stem.rpartition("_")[0]
        while base:
            if normal := self._own_normal(base):
                return normal
            base = base.rpartition("_")[0]
        return ""

    def _without_normal(self, stem: str) -> LeftOutFile:
        path = self.stems[stem]
        short = stem.removesuffix(_ending(stem, DIFFUSE_SUFFIXES))
        for name in (stem + _MODEL_SPACE, short + _MODEL_SPACE):
            if name in self.stems:
                reason = f"its normals are of model space ({self.stems[name].name}), which are not converted"
                return LeftOutFile(path, Outcome.SKIPPED, reason)
        names = (self.unread.get(base + ending) for base in (stem, short) for ending in NORMAL_SUFFIXES)
        for unread in filter(None, names):
            return LeftOutFile(path, Outcome.UNPAIRED, f"its normal {unread} is not read. {SAVE}")
        wanted = path.stem[: len(short)] + NORMAL_SUFFIXES[0]
        reason = f"no normal beside it ({wanted}). Put it there; one of 1 x 1 px will do for a flat surface"
        return LeftOutFile(path, Outcome.UNPAIRED, reason)

    def _without_diffuse(self, stem: str) -> LeftOutFile:
        path = self.stems[stem]
        base = stem.removesuffix(_ending(stem, NORMAL_SUFFIXES))
        if base.endswith(_LOD):
            return LeftOutFile(path, Outcome.SKIPPED, f"{_LOD}: LOD")
        for unread in filter(None, (self.unread.get(base + ending) for ending in DIFFUSE_SUFFIXES)):
            return LeftOutFile(path, Outcome.UNPAIRED, f"its diffuse {unread} is not read. {SAVE}")
        reason = "no diffuse beside it. If that lies in an archive, unpack it beside this file"
        return LeftOutFile(path, Outcome.UNPAIRED, reason)

    def _other(self, stem: str, diffuses: Collection[str]) -> LeftOutFile:
        """What a file is by its ending, and how to have it converted if it is a diffuse all the same."""
        path = self.stems[stem]
        if stem.endswith(_LOD):
            return LeftOutFile(path, Outcome.SKIPPED, f"{_LOD}: LOD")
        ending = _ending(stem, tuple(OTHER_SUFFIXES))
        reason = f"{ending}: {OTHER_SUFFIXES[ending]}"
        base = stem.removesuffix(ending)
        if any(base + diffuse in diffuses for diffuse in DIFFUSE_SUFFIXES):
            return LeftOutFile(path, Outcome.SKIPPED, reason)
        own = path.stem + NORMAL_SUFFIXES[0]
        return LeftOutFile(
            path, Outcome.SKIPPED, f"{reason} by its name. If it is a diffuse, give it a normal {own}"
        )

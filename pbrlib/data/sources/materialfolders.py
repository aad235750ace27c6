"""Which pictures below a folder make which material, by their names; nothing is opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.decoding import SUFFIXES
from pbrlib.data.sources.filenames import PictureName, describe_other, parse_name, plain_stem
from pbrlib.data.sources.unread import explain_unread
from pbrlib.maps import ALBEDO, CLASSES, DIFFUSE, MAPS, NORMAL

MOST_LEVELS = 6
"""Folders below the one that is named are searched to this depth."""

LINKED_LEVELS = 2
"""Links to folders are followed at these levels: a material, or one below the folder of its class."""

_GENERIC = re.compile(r"textures?|maps?|tex|png|jpe?g|tiff?|\d{1,2}k|\d{3,5}(x\d{3,5})?")
"""Names of folders inside of a material, which is called like the folder above."""

_BEHIND = 1000  # more than there are names of a map

_READ = ", ".join(kind.file for kind in MAPS.values() if kind.file is not None)


@dataclass(frozen=True)
class MapFile:
    """The file of a map: the channel that holds it, None for all, and what its name says besides."""

    path: Path
    channel: int | None = None
    opposite: bool = False
    is_opengl: bool = False


@dataclass(frozen=True)
class Unused:
    """A picture or archive that is not read: why, and the maps that its name promises."""

    path: Path
    check: str
    reason: str
    maps: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaterialFiles:
    """A material: its folder, the class of a folder above it, its files by map, and the rest."""

    folder: Path
    label: str | None
    files: Mapping[str, MapFile]
    unused: tuple[Unused, ...] = ()


@dataclass
class FoundMaterials:
    """The materials below a folder by id; ``stray`` are pictures and archives that belong to none."""

    materials: dict[str, MaterialFiles] = field(default_factory=dict)
    stray: list[Unused] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, name: str, found: MaterialFiles) -> None:
        """Adds a material, or an error if its id is taken."""
        taken = self.materials.setdefault(name, found)
        if taken is not found:
            message = f"{found.folder}: {name} is also in {taken.folder}, which is taken. Rename one of them."
            self.findings.append(Finding(f"{name} (again)", "", "twice", "error", message))


@dataclass
class _Group:
    """Pictures whose names begin alike: the candidates for each map, and the beginning as it is spelled."""

    prefix: str
    candidates: dict[str, list[tuple[tuple[int, int, str], MapFile]]] = field(default_factory=dict)

    def add(self, path: Path, name: PictureName) -> None:
        """Adds a picture under each map that it holds."""
        order = (name.rank, SUFFIXES.index(path.suffix.lower()), path.name)
        for channel, kind in enumerate(name.maps):
            if kind is not None:
                file = MapFile(path, channel if name.is_packed else None, name.opposite, name.is_opengl)
                self.candidates.setdefault(kind, []).append((order, file))

    @property
    def is_complete(self) -> bool:
        """Whether it has what a material needs."""
        return NORMAL.name in self.candidates and not {ALBEDO.name, DIFFUSE.name}.isdisjoint(self.candidates)


@dataclass
class _Scan:
    """What lies directly in a folder: pictures by the beginning of their names, what is not read, folders."""

    groups: dict[str, _Group]
    unused: list[Unused]
    folders: list[Path]


def find_materials(root: Path) -> FoundMaterials:
    """Finds the materials below a folder, and in it.

    A folder with pictures is a material, called like the folder; what lies in ``textures`` and the like is
    called like the folder above. Where the names of several pictures begin differently and hold one map more
    than once, each beginning is a material of its own.
    """
    found = FoundMaterials()
    scans = dict(_walk(root, found))
    at_root = scans.pop(root)
    for folder, scan in scans.items():
        _add_materials(folder, scan, root=root, found=found)
    if found.materials:  # single pictures above materials belong to none
        for beginning, group in [*at_root.groups.items()]:
            if not group.is_complete:
                del at_root.groups[beginning]
                found.stray += _as_stray(group)
    _add_materials(root, at_root, root=root, found=found)
    for folder, scan in scans.items():
        if not scan.groups and not any(folder in one.folder.parents for one in found.materials.values()):
            found.findings += _unnamed(folder, scan)
    return found


def _walk(root: Path, found: FoundMaterials) -> Iterator[tuple[Path, _Scan]]:
    """Every folder that is searched and what lies in it; adds those that are not to ``found``."""
    seen = {root.resolve(), *root.resolve().parents}
    pending = [(root, 0)]
    while pending:
        folder, level = pending.pop()
        try:
            scan = _scan(folder)
        except OSError as error:
            reason = f"cannot be listed ({error.strerror}). Check its permissions"
            found.stray.append(Unused(folder, "not listed", reason))
            scan = _Scan({}, [], [])
        yield folder, scan
        for below in reversed(scan.folders):
            barred = _why_not_searched(below, level + 1, seen)
            if barred is not None:
                found.stray.append(Unused(below, "not searched", barred))
            else:
                seen.add(below.resolve())
                pending.append((below, level + 1))


def _why_not_searched(folder: Path, level: int, seen: set[Path]) -> str | None:
    if level > MOST_LEVELS:
        return f"lies deeper than {MOST_LEVELS} folders. Name a folder nearer to it as the source"
    if not folder.is_symlink():
        return None
    if folder.resolve() in seen:
        return "a link to a folder that is searched already"
    if level > LINKED_LEVELS:
        return "a link to a folder, which is not followed here. Copy the folder, or name it as a source"
    return None


def _scan(folder: Path) -> _Scan:
    scan = _Scan({}, [], [])
    pictures: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__MACOSX")):
            continue
        if path.is_dir():
            scan.folders.append(path)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            pictures.append(path)
        elif path.suffix.lower() in SUFFIXES:
            scan.unused.append(
                Unused(path, "link", "a link that leads nowhere. Copy the file it is meant to be")
            )
        elif (unread := explain_unread(path)) is not None:
            said = parse_name(path.stem)
            maps = () if said is None else tuple(kind for kind in said.maps if kind is not None)
            scan.unused.append(Unused(path, "format", unread, maps))
    names = {path: parse_name(path.stem) for path in pictures}
    beginnings = {name.prefix.lower() for name in names.values() if name is not None} | {folder.name.lower()}
    for path, name in names.items():
        if name is None or (name.prefix and plain_stem(path.stem) in beginnings):
            scan.unused.append(Unused(path, "name", _say_name(path)))
        else:
            scan.groups.setdefault(name.prefix.lower(), _Group(name.prefix)).add(path, name)
    return scan


def _say_name(path: Path) -> str:
    shows = describe_other(path.stem)
    if shows is not None:
        return f"by its name {shows}, which is no map that is read ({_READ})"
    return f"its name is of no map ({_READ}). Rename it, or name it under maps in manifest.json"


def _add_materials(folder: Path, scan: _Scan, *, root: Path, found: FoundMaterials) -> None:
    """Adds the materials of a folder, and what is left of it."""
    label = _class_above(folder, root)
    unused = scan.unused
    for name, group in _materials(scan.groups, folder, root):
        files, others = _choose(group)
        of_group = [one for one in unused if _begins(one, group) or len(scan.groups) == 1]
        unused = [one for one in unused if one not in of_group]
        found.add(name, MaterialFiles(folder, label, files, (*others, *of_group)))
    found.stray += unused


def _materials(groups: Mapping[str, _Group], folder: Path, root: Path) -> Iterator[tuple[str, _Group]]:
    """The materials of a folder: one, unless several beginnings are whole materials or lie in the root."""
    own = _folder_name(folder, root)
    complete = [group for group in groups.values() if group.is_complete]
    claims = Counter(kind for group in groups.values() for kind in group.candidates)
    if max(claims.values(), default=0) > 1 and (len(complete) > 1 or folder == root):
        yield from ((group.prefix or own, group) for group in groups.values())
    elif groups:
        first = complete[0] if complete else None
        beginning = first.prefix if first is not None and folder == root else ""
        yield beginning or own, _merged(groups.values(), first)


def _merged(groups: Iterable[_Group], first: _Group | None) -> _Group:
    """All candidates of a folder, those of one group before the others."""
    merged = _Group("")
    for group in groups:
        behind = 0 if first is None or group is first else _BEHIND
        for kind, candidates in group.candidates.items():
            ranked = [((rank + behind, suffix, name), file) for (rank, suffix, name), file in candidates]
            merged.candidates.setdefault(kind, []).extend(ranked)
    return merged


def _choose(group: _Group) -> tuple[dict[str, MapFile], list[Unused]]:
    """The file of each map, and those that are not needed."""
    files = {kind: min(found, key=itemgetter(0))[1] for kind, found in group.candidates.items()}
    files = {kind: files[kind] for kind in MAPS if kind in files}
    used = {file.path for file in files.values()}
    unused = {
        file.path: Unused(file.path, "instead", f"{files[kind].path.name} is read as {kind}", (kind,))
        for kind, candidates in group.candidates.items()
        for _, file in candidates
        if file.path not in used
    }
    return files, list(unused.values())


def _begins(unused: Unused, group: _Group) -> bool:
    return bool(group.prefix) and unused.path.name.lower().startswith(group.prefix.lower())


def _as_stray(group: _Group) -> Iterator[Unused]:
    reason = "lies above the folders of materials, without what makes a material. Move it into its folder"
    paths = {file.path for candidates in group.candidates.values() for _, file in candidates}
    yield from (Unused(path, "place", reason) for path in sorted(paths))


def _unnamed(folder: Path, scan: _Scan) -> Iterator[Finding]:
    """A warning on a folder that has pictures, and none that is read."""
    pictures = [one for one in scan.unused if one.check in ("name", "format")]
    if pictures:
        more = f" and {len(pictures) - 1} more" if len(pictures) > 1 else ""
        message = f"{folder}: no picture is read: {pictures[0].path.name}{more}: {pictures[0].reason}."
        yield Finding(folder.name, "", "no map", "warning", message)


def _folder_name(folder: Path, root: Path) -> str:
    while folder != root and _GENERIC.fullmatch(folder.name.lower()):
        folder = folder.parent
    return folder.name


def _class_above(folder: Path, root: Path) -> str | None:
    """The class that a folder above is called like, up to the root."""
    above = [folder.name] if folder == root else []
    while folder != root:
        folder = folder.parent
        above.append(folder.name)
    return next((name.lower() for name in above if name.lower() in CLASSES), None)


def describe_stray(stray: Sequence[Unused]) -> str:
    """Say what was seen instead of a material, for the error that there is none."""
    kinds = Counter(one.path.suffix.lower() or one.check for one in stray)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    first = next(iter(stray), None)
    if first is None:
        return ""
    game = " A game's textures are read as skyrim:old=FOLDER." if ".dds" in kinds else ""
    return f" Seen and not read: {counts}; {first.path.name}: {first.reason}.{game}"

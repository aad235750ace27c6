"""Groups the pictures below a folder into materials by their names; no file is opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.decoding import SUFFIXES
from pbrlib.data.sources.filenames import PictureName, describe_unread_map, parse_name, plain_stem
from pbrlib.data.sources.unread import explain_unread
from pbrlib.maps import ALBEDO, CLASSES, DIFFUSE, MAPS, NORMAL

MAX_DEPTH = 6
"""Subfolders of the given folder are searched to this depth."""

MAX_LINK_DEPTH = 2
"""Links to folders are followed to this depth: links to a material, or to one in the folder of its class."""

_GENERIC = re.compile(r"textures?|maps?|tex|png|jpe?g|tiff?|\d{1,2}k|\d{3,5}(x\d{3,5})?")
"""Names of folders inside of a material; the material gets the name of the parent folder."""

_RANK_OFFSET = 1000  # larger than every rank, so that pictures of other groups come last

_READ = ", ".join(kind.file for kind in MAPS.values() if kind.file is not None)


@dataclass(frozen=True)
class MapFile:
    """The file of a map; ``channel`` is the channel of the map, or None if the file has only this map."""

    path: Path
    channel: int | None = None
    is_inverted: bool = False
    is_opengl: bool = False


@dataclass(frozen=True)
class UnreadFile:
    """A picture or archive that is not read: the reason, and the maps according to its name."""

    path: Path
    check: str
    reason: str
    maps: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaterialFiles:
    """A material: its folder, the class of a parent folder, its files by map, and its unread files."""

    folder: Path
    label: str | None
    files: Mapping[str, MapFile]
    unused: tuple[UnreadFile, ...] = ()


@dataclass
class FoundMaterials:
    """The materials below a folder by id; ``stray`` are pictures and archives that belong to no material."""

    materials: dict[str, MaterialFiles] = field(default_factory=dict)
    stray: list[UnreadFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, name: str, found: MaterialFiles) -> None:
        """Add a material, or an error if its id exists already."""
        taken = self.materials.setdefault(name, found)
        if taken is not found:
            message = f"{found.folder}: {name} is also in {taken.folder}, which is used. Rename one of them."
            self.findings.append(Finding(f"{name} (again)", "", "twice", "error", message))


@dataclass
class _Group:
    """Pictures whose names have the same prefix: the candidates for each map."""

    prefix: str
    candidates: dict[str, list[tuple[tuple[int, int, str], MapFile]]] = field(default_factory=dict)

    def add(self, path: Path, name: PictureName) -> None:
        """Add a picture as candidate for each of its maps."""
        order = (name.rank, SUFFIXES.index(path.suffix.lower()), path.name)
        for channel, kind in enumerate(name.maps):
            if kind is not None:
                file = MapFile(path, channel if name.is_packed else None, name.is_inverted, name.is_opengl)
                self.candidates.setdefault(kind, []).append((order, file))

    @property
    def is_complete(self) -> bool:
        """Whether the group has a normal, and an albedo or a diffuse, as a material needs."""
        return NORMAL.name in self.candidates and not {ALBEDO.name, DIFFUSE.name}.isdisjoint(self.candidates)


@dataclass
class _Scan:
    """The content of a folder: pictures by the prefix of their names, unread files, and subfolders."""

    groups: dict[str, _Group]
    unused: list[UnreadFile]
    folders: list[Path]


def find_materials(root: Path) -> FoundMaterials:
    """Find the materials in a folder and its subfolders.

    A folder with pictures is a material with the name of the folder. A folder such as ``textures`` gets the
    name of its parent folder. If pictures of a folder have several prefixes and one map occurs more than
    once, each prefix is a separate material.
    """
    found = FoundMaterials()
    scans = dict(_walk(root, found))
    at_root = scans.pop(root)
    for folder, scan in scans.items():
        _add_materials(folder, scan, root=root, found=found)
    if found.materials:  # pictures in the root next to folders of materials belong to no material
        for prefix, group in [*at_root.groups.items()]:
            if not group.is_complete:
                del at_root.groups[prefix]
                found.stray += _as_stray(group)
    _add_materials(root, at_root, root=root, found=found)
    for folder, scan in scans.items():
        if not scan.groups and not any(folder in files.folder.parents for files in found.materials.values()):
            found.findings += _unnamed(folder, scan)
    return found


def _walk(root: Path, found: FoundMaterials) -> Iterator[tuple[Path, _Scan]]:
    """Yield every searched folder with its content; folders that are not searched are added to ``found``."""
    seen = {root.resolve(), *root.resolve().parents}
    pending = [(root, 0)]
    while pending:
        folder, level = pending.pop()
        try:
            scan = _scan(folder)
        except OSError as error:
            problem = f"cannot be listed ({error.strerror}). Check its permissions"
            found.stray.append(UnreadFile(folder, "not listed", problem))
            scan = _Scan({}, [], [])
        yield folder, scan
        for below in reversed(scan.folders):
            reason = _why_not_searched(below, level + 1, seen)
            if reason is not None:
                found.stray.append(UnreadFile(below, "not searched", reason))
            else:
                seen.add(below.resolve())
                pending.append((below, level + 1))


def _why_not_searched(folder: Path, level: int, seen: set[Path]) -> str | None:
    if level > MAX_DEPTH:
        return f"is more than {MAX_DEPTH} folders deep. Give a folder nearer to it as the source"
    if not folder.is_symlink():
        return None
    if folder.resolve() in seen:
        return "a link to a folder that is searched already"
    if level > MAX_LINK_DEPTH:
        return "a link to a folder, which is not followed here. Copy the folder, or give it as a source"
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
            scan.unused.append(UnreadFile(path, "link", "a broken link. Copy the file here"))
        elif (unread := explain_unread(path)) is not None:
            parsed = parse_name(path.stem)
            maps = () if parsed is None else tuple(kind for kind in parsed.maps if kind is not None)
            scan.unused.append(UnreadFile(path, "format", unread, maps))
    names = {path: parse_name(path.stem) for path in pictures}
    prefixes = {name.prefix.lower() for name in names.values() if name is not None} | {folder.name.lower()}
    for path, name in names.items():
        if name is None or (name.prefix and plain_stem(path.stem) in prefixes):
            scan.unused.append(UnreadFile(path, "name", _explain_name(path)))
        else:
            scan.groups.setdefault(name.prefix.lower(), _Group(name.prefix)).add(path, name)
    return scan


def _explain_name(path: Path) -> str:
    described = describe_unread_map(path.stem)
    if described is not None:
        return f"its name means {described}; expected one of the maps {_READ}"
    return f"its name has none of the maps {_READ}. Rename it, or add it to maps in manifest.json"


def _add_materials(folder: Path, scan: _Scan, *, root: Path, found: FoundMaterials) -> None:
    """Add the materials of a folder, and its remaining files."""
    label = _class_above(folder, root)
    unused = scan.unused
    for name, group in _materials(scan.groups, folder, root):
        files, others = _choose(group)
        of_group = [file for file in unused if _has_prefix(file, group) or len(scan.groups) == 1]
        unused = [file for file in unused if file not in of_group]
        found.add(name, MaterialFiles(folder, label, files, (*others, *of_group)))
    found.stray += unused


def _materials(groups: Mapping[str, _Group], folder: Path, root: Path) -> Iterator[tuple[str, _Group]]:
    """Yield the materials of a folder: one, unless several prefixes are complete or it is the root."""
    own = _folder_name(folder, root)
    complete = [group for group in groups.values() if group.is_complete]
    claims = Counter(kind for group in groups.values() for kind in group.candidates)
    if max(claims.values(), default=0) > 1 and (len(complete) > 1 or folder == root):
        yield from ((group.prefix or own, group) for group in groups.values())
    elif groups:
        first = complete[0] if complete else None
        prefix = first.prefix if first is not None and folder == root else ""
        yield prefix or own, _merge(groups.values(), first)


def _merge(groups: Iterable[_Group], first: _Group | None) -> _Group:
    """Merge the candidates of all groups; those of the group ``first`` are preferred."""
    merged = _Group("")
    for group in groups:
        offset = 0 if first is None or group is first else _RANK_OFFSET
        for kind, candidates in group.candidates.items():
            ranked = [((rank + offset, suffix, name), file) for (rank, suffix, name), file in candidates]
            merged.candidates.setdefault(kind, []).extend(ranked)
    return merged


def _choose(group: _Group) -> tuple[dict[str, MapFile], list[UnreadFile]]:
    """Return the file of each map, and the files that are not needed."""
    files = {kind: min(found, key=itemgetter(0))[1] for kind, found in group.candidates.items()}
    files = {kind: files[kind] for kind in MAPS if kind in files}
    used = {file.path for file in files.values()}
    unused = {
        file.path: UnreadFile(file.path, "instead", f"{files[kind].path.name} is read as {kind}", (kind,))
        for kind, candidates in group.candidates.items()
        for _, file in candidates
        if file.path not in used
    }
    return files, list(unused.values())


def _has_prefix(unused: UnreadFile, group: _Group) -> bool:
    return bool(group.prefix) and unused.path.name.lower().startswith(group.prefix.lower())


def _as_stray(group: _Group) -> Iterator[UnreadFile]:
    reason = "is above the folders of materials, and is no complete material. Move it into its folder"
    paths = {file.path for candidates in group.candidates.values() for _, file in candidates}
    yield from (UnreadFile(path, "place", reason) for path in sorted(paths))


def _unnamed(folder: Path, scan: _Scan) -> Iterator[Finding]:
    """Yield a warning on a folder with pictures of which none is read."""
    pictures = [file for file in scan.unused if file.check in ("name", "format")]
    if pictures:
        more = f" and {len(pictures) - 1} more" if len(pictures) > 1 else ""
        message = f"{folder}: no picture is read: {pictures[0].path.name}{more}: {pictures[0].reason}."
        yield Finding(folder.name, "", "no map", "warning", message)


def _folder_name(folder: Path, root: Path) -> str:
    while folder != root and _GENERIC.fullmatch(folder.name.lower()):
        folder = folder.parent
    return folder.name


def _class_above(folder: Path, root: Path) -> str | None:
    """Return the class that is the name of the nearest parent folder with such a name, up to the root."""
    above = [folder.name] if folder == root else []
    while folder != root:
        folder = folder.parent
        above.append(folder.name)
    return next((name.lower() for name in above if name.lower() in CLASSES), None)


def describe_stray(stray: Sequence[UnreadFile]) -> str:
    """Describe the unread files, for the error that a folder has no material."""
    kinds = Counter(file.path.suffix.lower() or file.check for file in stray)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    first = next(iter(stray), None)
    if first is None:
        return ""
    game = " For textures of a game, use skyrim:old=FOLDER." if ".dds" in kinds else ""
    return f" Found and not read: {counts}; {first.path.name}: {first.reason}.{game}"

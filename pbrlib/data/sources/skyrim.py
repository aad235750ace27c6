"""The source of pairs of old and new textures of Skyrim: an old tree, its True PBR tree, and class masks.

In the old tree, ``<name>.dds`` is the diffuse, and ``<name>_n.dds`` the normal with the gloss in its alpha.
In the new tree, at the same relative path, ``<name>.dds`` is the albedo, ``<name>_rmaos.dds`` roughness,
metallic and occlusion, ``<name>_p.dds`` the height. ``<name>_mask.png`` has class ids or colours of the
palette. The normal of the new tree is not read, since networks get the old one. The alpha of a diffuse is
dropped, since it may be opacity or anything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pbrlib.data.materials.audit import Finding, require_material
from pbrlib.data.materials.material import Entry, Material, file_stamp
from pbrlib.data.materials.pictures import with_rescaled_height
from pbrlib.data.sources.folder import family_of
from pbrlib.data.sources.oldnew import PARTS, MaterialReader
from pbrlib.data.sources.settings import Reader, read_settings
from pbrlib.errors import DataError
from pbrlib.maps import ALBEDO, HEIGHT, ROUGHNESS, TRUE_PBR
from pbrlib.skyrim import NORMAL_SUFFIXES, PBR_FOLDER
from pbrlib.textures.leftout import Outcome
from pbrlib.textures.matching import Pair
from pbrlib.textures.pairs import find_pairs
from pbrlib.textures.treefiles import subfolder, texture_files

NAME = "skyrim"

NEW = {
    "albedo": TRUE_PBR[ALBEDO.name].ending,
    "rmaos": TRUE_PBR[ROUGHNESS.name].ending,
    "height": TRUE_PBR[HEIGHT.name].ending,
}
"""The name endings of the files of a new set that are read."""

MASK_ENDING = "_mask"


@dataclass(frozen=True)
class _Tree:
    """The files of a tree by their lower-case path without suffix, relative to the texture root."""

    root: Path
    files: Mapping[str, Path]


class SkyrimSource:
    """The pairs of an old tree that have a target: a new set, a mask or both.

    The id of a pair is the path of the diffuse without its ending. Its family is the path of the normal
    without running numbers and variant letters (``family``), so that ``dungeons/stone01`` and
    ``dungeons/stone02b``, and variants with one normal, are in the same split.

    Args:
        old: The folder of a game or a mod, its texture folder, or a folder below that.
        new: The folder of the new tree: a folder with ``textures/PBR`` or ``PBR``, such as the output of a
            conversion, or a folder ``PBR`` itself. By default the ``PBR`` folder of the old tree, if any.
        masks: The folder of the masks, at the same relative paths; by default both trees are searched.
        size: Maximum of the longer side in pixels.
    """

    name = NAME

    def __init__(
        self, old: str, *, new: str | None = None, masks: str | None = None, size: int = 1024
    ) -> None:
        self.old, self.new, self.masks, self.size = old, new, masks, size
        self._found: tuple[list[Entry], list[Finding]] | None = None

    @classmethod
    def parse(cls, text: str, *, size: int) -> SkyrimSource:
        """Parse a source such as ``skyrim:old=/data/old,new=/data/new,masks=/data/masks``.

        Raises:
            ConfigError: A key is unknown, or ``old`` is missing.
        """
        readers: dict[str, Reader] = {"old": str, "new": str, "masks": str}
        return cls(size=size, **read_settings(text, readers=readers, example=f"{NAME}:old=/data/old"))

    def entries(self) -> list[Entry]:
        """List the pairs, sorted by path; reads names only.

        Raises:
            DataError: A folder is missing, or no pair has a new set or a mask.
        """
        return self._listing()[0]

    def left_out(self) -> list[Finding]:
        """Return a note on every pair without a target, and on every file without its counterpart."""
        return self._listing()[1]

    def load(self, entry: Entry) -> Material:
        """Read a pair; raises DataError with all of its errors."""
        return require_material(*self.survey(entry))

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Read a pair, or None if it has errors, and return it with all findings."""
        if not entry.place:
            raise DataError(f"{self.old}: no pair {entry.id}. List the entries again.")
        files = {part: Path(path) for part, path in json.loads(entry.place).items()}
        reading = MaterialReader(entry.id, files, size=self.size)
        maps = reading.maps()
        if maps is None:
            return None, tuple(reading.findings)
        maps, height_range = with_rescaled_height(maps)
        material = Material(
            id=entry.id,
            family=entry.family,
            source=self.name,
            label=reading.label(maps),
            tileable=reading.tileable(),
            licence="unknown",
            attribution="",
            maps=maps,
            height_range=height_range,
        )
        return material, tuple(reading.findings)

    def stamp(self, entry: Entry) -> str:
        """Return a text of the settings, and the stamps of the files of the pair."""
        files = {part: file_stamp(Path(path)) for part, path in json.loads(entry.place).items()}
        return json.dumps([self.name, self.size, files])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the listing, since an entry has the paths of its files."""
        return {**self.__dict__, "_found": None}

    def _listing(self) -> tuple[list[Entry], list[Finding]]:
        if self._found is None:
            self._found = self._list()
        return self._found

    def _list(self) -> tuple[list[Entry], list[Finding]]:
        listing = find_pairs(Path(self.old))
        new = _new_tree(listing.root, self.new)
        trees = [_tree(listing.root), *([new] if new else [])]
        masks = [_tree(_texture_root(Path(self.masks)))] if self.masks else trees
        entries, notes = [], []
        for pair in listing.pairs:
            files = {"diffuse": pair.diffuse, "normal": pair.normal}
            targets = _new_files(pair, new) | _mask_file(pair, masks)
            if targets:
                entries.append(_entry(pair, files | targets))
            else:
                why = "an old pair without a new set or a mask; left out"
                notes.append(Finding(str(pair.name), "", "no new set", "note", why))
        if not entries:
            where = f"a new set below {new.root}" if new else "a new set, since there is no textures/PBR,"
            raise DataError(
                f"{self.old}: {len(listing.pairs)} old pairs, none with {where} or a mask. "
                "Give new= or masks= with the same paths below them."
            )
        notes += [
            Finding(str(file.path), "", file.outcome.value, "note", f"{file.reason}; left out")
            for file in listing.left_out
            if file.outcome in (Outcome.UNPAIRED, Outcome.UNREAD)
        ]
        notes += _strays(new, entries)
        return entries, notes


def _entry(pair: Pair, files: Mapping[str, Path]) -> Entry:
    place = json.dumps({part: str(files[part]) for part in PARTS if part in files})
    return Entry(pair.name.as_posix(), family(_relief(pair)), place=place)


def _relief(pair: Pair) -> PurePosixPath:
    """Return the name of a pair's normal without its ending; variants with one normal have it in common."""
    stem = pair.normal.stem
    ending = next((e for e in NORMAL_SUFFIXES if stem.lower().endswith(e)), "")
    return pair.name.with_name(stem[: len(stem) - len(ending)])


def family(name: PurePosixPath) -> str:
    """Return the family of a texture: its path without running numbers and variant letters."""
    return name.with_name(family_of(name.name)).as_posix().lower()


def _texture_root(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the folder with the textures.")
    return subfolder(folder, "textures") or folder


def _new_tree(old_root: Path, given: str | None) -> _Tree | None:
    """Return the given new tree, or the one inside of the old tree, or None."""
    if given is None:
        inside = subfolder(old_root, PBR_FOLDER)
        return None if inside is None else _tree(inside)
    root = _texture_root(Path(given))
    return _tree(subfolder(root, PBR_FOLDER) or root)


def _tree(root: Path) -> _Tree:
    """Return the texture files below a folder; a DDS is preferred to a PNG with the same name."""
    files: dict[str, Path] = {}
    for path in sorted(texture_files(root), key=lambda path: (path.suffix.lower() != ".dds", path)):
        files.setdefault(_key(path.with_name(path.stem)), root / path)
    return _Tree(root, files)


def _key(name: PurePosixPath, ending: str = "") -> str:
    return name.as_posix().lower() + ending


def _new_files(pair: Pair, new: _Tree | None) -> dict[str, Path]:
    """Return the files of a pair's new set, which has the name of the diffuse with or without its ending."""
    if new is None:
        return {}
    places = {part: [_key(name, ending) for name in (pair.name, pair.stem)] for part, ending in NEW.items()}
    hits = {part: [new.files[key] for key in keys if key in new.files] for part, keys in places.items()}
    return {part: paths[0] for part, paths in hits.items() if paths}


def _mask_file(pair: Pair, trees: Iterable[_Tree]) -> dict[str, Path]:
    keys = [_key(name, MASK_ENDING) for name in (pair.name, pair.stem)]
    hits = [tree.files[key] for tree in trees for key in keys if key in tree.files]
    return {"mask": hits[0]} if hits else {}


def _strays(new: _Tree | None, entries: Iterable[Entry]) -> list[Finding]:
    """Return notes on new sets, found by their ``rmaos`` files, without an old pair at the same path."""
    if new is None:
        return []
    used = {path for entry in entries for path in json.loads(entry.place).values()}
    why = "a new set without an old pair at the same path; left out"
    return [
        Finding(key, "", "no old pair", "note", why)
        for key, path in new.files.items()
        if key.endswith(NEW["rmaos"]) and str(path) not in used
    ]

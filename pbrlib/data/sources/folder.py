"""A folder of materials, as it is found: pictures by their names, and what a manifest says.

Each folder with pictures is a material: ``<root>/<material>/{albedo,normal,...}.{png,jpg,tif,...}``, in the
names of `pbrlib.maps` or of those who publish such sets (`materialfolders`, `filenames`). A folder above that
is called like a class gives the class. An optional ``<root>/manifest.json``, a list of objects with an
``id``, says what the pictures cannot: ``class``, ``family``, ``licence``, ``attribution`` or
``source_asset``, ``normal_convention`` (``opengl`` or ``directx``), ``tileable``, ``metallic_constant``, and
``maps`` with a ``file`` each where they are named otherwise (`foldermanifest`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbrlib.data.materials import pictures
from pbrlib.data.materials.audit import Finding, loaded
from pbrlib.data.materials.material import Entry, Material, file_stamp
from pbrlib.data.sources.foldermanifest import ListedMaterial, read_folder_manifest
from pbrlib.data.sources.folderreading import Found, Reading
from pbrlib.data.sources.materialfolders import (
    MapFile,
    MaterialFiles,
    Unused,
    describe_stray,
    find_materials,
)
from pbrlib.errors import DataError
from pbrlib.maps import MAPS


@dataclass(frozen=True)
class _Listing:
    """The materials that are offered, and what is said of the rest."""

    materials: dict[str, Found]
    findings: tuple[Finding, ...]


class FolderSource:
    """Materials below a folder, see the module.

    The class is the manifest's, else the name of a folder above the material if it is one, else unknown; a
    class that this product does not know is unknown as well, with a note. The family is the manifest's, else
    ``family_of(id)``. Whether a material tiles is the manifest's word, else measured at its borders.

    Args:
        root: The folder.
        size: Upper bound of the longer side in pixels; larger maps are reduced, smaller ones kept.
        name: Of the source, in the index and in metrics.
    """

    def __init__(self, root: str, size: int = 1024, name: str = "materials") -> None:
        self.root, self.size, self.name = Path(root), size, name
        self._found: _Listing | None = None

    def entries(self) -> list[Entry]:
        """The materials, sorted by id.

        Raises:
            DataError: The folder is missing or holds no material, or the manifest is no list.
        """
        found = self._listing().materials.items()
        return [Entry(n, f.listed.family or family_of(n), label=f.listed.known_class) for n, f in found]

    def left_out(self) -> list[Finding]:
        """Pictures and archives of no material, and what is wrong with entries of the manifest and ids."""
        return list(self._listing().findings)

    def load(self, entry: Entry) -> Material:
        """Reads one material; raises DataError with everything that is wrong with it."""
        return loaded(*self.survey(entry))

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Reads one material, or None, and tells what the reading showed."""
        found = self._listing().materials.get(entry.id)
        if found is None:
            raise DataError(f"{self.root}: no material {entry.id}. List the entries again.")
        reading = Reading(entry.id, found, self.root, self.size)
        maps = reading.maps()
        if maps is None:
            return None, tuple(reading.findings)
        listed = found.listed
        maps, height_range = pictures.with_rescaled_height(maps)
        material = Material(
            id=entry.id,
            family=entry.family,
            source=self.name,
            label=listed.known_class,
            tileable=reading.tileable(),
            licence=listed.licence or "unknown",
            attribution=listed.credit,
            maps=maps,
            height_range=height_range,
        )
        return material, tuple(reading.findings)

    def stamp(self, entry: Entry) -> str:
        """Its settings, what the manifest says of the material, and its files."""
        found = self._listing().materials[entry.id]
        files = {
            name: [file_stamp(file.path), file.channel, file.opposite] for name, file in found.files.items()
        }
        return json.dumps([self.name, self.size, found.listed.model_dump(mode="json"), files])

    def __getstate__(self) -> dict[str, Any]:
        """Without the listing: a task that reads a few materials need not carry thousands."""
        return {**self.__dict__, "_found": None}

    def _listing(self) -> _Listing:
        if self._found is None:
            self._found = _list(self.root)
        return self._found


def family_of(name: str) -> str:
    """The part of an id that variants of one original share.

    Variant letters go (``metal_049a``, ``metal_049b``: ``metal_049``), and running numbers of one or two
    digits (``planks_01``, ``planks_02``: ``planks``). Three digits and more are catalogue numbers, which
    tell different originals apart.
    """
    family = name
    while True:
        shorter = re.sub(r"(?i)(?<=\d)[a-z]$|[_\-. ][a-z]$|(?<!\d)\d{1,2}$", "", family).rstrip("_-. ")
        if shorter == family or not shorter:
            return family
        family = shorter


def _list(root: Path) -> _Listing:
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}. Give a folder with a subfolder for each material.")
    manifest = read_folder_manifest(root)
    found = find_materials(root)
    findings = [*manifest.findings, *found.findings]
    materials, named = {}, set()
    for name in sorted({*manifest.materials, *found.materials} - manifest.refused):
        folder = found.materials.get(name)
        listed = manifest.materials.get(name)
        if listed is None:
            listed = ListedMaterial(id=name, label=None if folder is None else folder.label)
        try:
            files = _named_files(listed, root)
        except DataError as error:
            findings.append(Finding(name, "", "manifest", "error", str(error)))
            continue
        named |= {file.path.resolve() for file in files.values()}
        materials[name] = _joined(listed, folder, files)
    if not materials and not any(finding.severity == "error" for finding in findings):
        raise DataError(
            f"{root}: no material. Each is a subfolder with at least normal.png and albedo.png."
            f"{describe_stray(found.stray)}"
        )
    findings += [_stray(one, root) for one in found.stray if one.path.resolve() not in named]
    return _Listing(materials, tuple(findings))


def _joined(listed: ListedMaterial, folder: MaterialFiles | None, named: dict[str, MapFile]) -> Found:
    """A material of the manifest and of its folder; files that the manifest names come first."""
    if folder is None:
        return Found(listed, named)
    files = {**folder.files, **named}
    used = {file.path.resolve() for file in files.values()}
    return Found(listed, files, tuple(one for one in folder.unused if one.path.resolve() not in used))


def _stray(one: Unused, root: Path) -> Finding:
    place = one.path.relative_to(root).as_posix()
    return Finding(place, "", one.check, "note", f"{one.path}: not read: {one.reason.removesuffix('.')}.")


def _named_files(listed: ListedMaterial, root: Path) -> dict[str, MapFile]:
    files = {}
    for name, one in listed.maps.items():
        path = root / one.file
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{root / 'manifest.json'}: {listed.id}: {one.file} lies outside of the folder.")
        if name in MAPS and MAPS[name].file is not None:
            files[name] = MapFile(path)
    return files

"""The source of a folder of materials: pictures, found by their names, and an optional manifest.

Each folder with pictures is a material: ``<root>/<material>/{albedo,normal,...}.{png,jpg,tif,...}``, with the
names of `pbrlib.maps` or of publishers of such sets (`materialfolders`, `filenames`). A parent folder with
the name of a class gives the class. An optional ``<root>/manifest.json``, a list of objects with an ``id``,
adds ``class``, ``family``, ``licence``, ``attribution`` or ``source_asset``, ``normal_convention``
(``opengl`` or ``directx``), ``tileable``, ``metallic_constant``, and ``maps`` with a ``file`` each for files
with other names (`foldermanifest`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbrlib.data.materials import pictures
from pbrlib.data.materials.audit import Finding, require_material
from pbrlib.data.materials.material import Entry, Material, file_stamp
from pbrlib.data.sources.foldermanifest import ListedMaterial, read_folder_manifest
from pbrlib.data.sources.folderreading import FoundMaterial, MaterialReader
from pbrlib.data.sources.materialfolders import (
    MapFile,
    MaterialFiles,
    UnreadFile,
    describe_stray,
    find_materials,
)
from pbrlib.errors import DataError
from pbrlib.maps import MAPS


@dataclass(frozen=True)
class _Listing:
    """The listed materials, and the findings on everything that is not listed."""

    materials: dict[str, FoundMaterial]
    findings: tuple[Finding, ...]


class FolderSource:
    """The materials below a folder; the module describes its layout.

    The class of a material is that of the manifest, else the name of a parent folder if that is a class, else
    unknown. A class of the manifest that the product does not have is unknown too, with a note. The family is
    that of the manifest, else ``family_of(id)``. The manifest states whether a material is tileable; without
    a statement it is measured at the borders.

    Args:
        root: The folder.
        size: Maximum of the longer side in pixels; larger maps are reduced, smaller ones are not enlarged.
        name: The name of the source in the index and in metrics.
    """

    def __init__(self, root: str, size: int = 1024, name: str = "materials") -> None:
        self.root, self.size, self.name = Path(root), size, name
        self._found: _Listing | None = None

    def entries(self) -> list[Entry]:
        """List the materials, sorted by id.

        Raises:
            DataError: The folder is missing or has no material, or the manifest is no list.
        """
        found = self._listing().materials.items()
        return [Entry(n, f.listed.family or family_of(n), label=f.listed.known_class) for n, f in found]

    def left_out(self) -> list[Finding]:
        """Return findings on unread pictures and archives, and on invalid ids and entries of the manifest."""
        return list(self._listing().findings)

    def load(self, entry: Entry) -> Material:
        """Read a material; raises DataError with all of its errors."""
        return require_material(*self.survey(entry))

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Read a material, or None if it has errors, and return it with all findings."""
        found = self._listing().materials.get(entry.id)
        if found is None:
            raise DataError(f"{self.root}: no material {entry.id}. List the entries again.")
        reading = MaterialReader(entry.id, found, self.root, self.size)
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
        """Return a text of the settings, the entry of the manifest, and the stamps of the files."""
        found = self._listing().materials[entry.id]
        files = {
            name: [file_stamp(file.path), file.channel, file.is_inverted]
            for name, file in found.files.items()
        }
        return json.dumps([self.name, self.size, found.listed.model_dump(mode="json"), files])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the listing, since a task that reads a few materials does not need it."""
        return {**self.__dict__, "_found": None}

    def _listing(self) -> _Listing:
        if self._found is None:
            self._found = _list(self.root)
        return self._found


def family_of(name: str) -> str:
    """Return the part of an id that variants of one original have in common.

    Variant letters are removed (``metal_049a``, ``metal_049b``: ``metal_049``), and running numbers of one or
    two digits (``planks_01``, ``planks_02``: ``planks``). Numbers of three or more digits are catalogue
    numbers of different originals, and are not removed.
    """
    family = name
    while True:
        shorter = re.sub(r"(?i)(?<=\d)[a-z]$|[_\-. ][a-z]$|(?<!\d)\d{1,2}$", "", family).rstrip("_-. ")
        if shorter == family or not shorter:
            return family
        family = shorter


def _list(root: Path) -> _Listing:
    if not root.is_dir():
        what = "got a file" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}; expected a folder with a subfolder per material. Give one.")
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
        materials[name] = _merge(listed, folder, files)
    if not materials and not any(finding.severity == "error" for finding in findings):
        raise DataError(
            f"{root}: no material; expected subfolders with at least normal.png and albedo.png each."
            f"{describe_stray(found.stray)}"
        )
    findings += [_stray(file, root) for file in found.stray if file.path.resolve() not in named]
    return _Listing(materials, tuple(findings))


def _merge(listed: ListedMaterial, folder: MaterialFiles | None, named: dict[str, MapFile]) -> FoundMaterial:
    """Merge the entry of the manifest and the files of the folder; files that the manifest gives win."""
    if folder is None:
        return FoundMaterial(listed, named)
    files = {**folder.files, **named}
    used = {file.path.resolve() for file in files.values()}
    unused = tuple(file for file in folder.unused if file.path.resolve() not in used)
    return FoundMaterial(listed, files, unused)


def _stray(file: UnreadFile, root: Path) -> Finding:
    place = file.path.relative_to(root).as_posix()
    return Finding(place, "", file.check, "note", f"{file.path}: not read: {file.reason.removesuffix('.')}.")


def _named_files(listed: ListedMaterial, root: Path) -> dict[str, MapFile]:
    files = {}
    for name, named in listed.maps.items():
        path = root / named.file
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(
                f"{root / 'manifest.json'}: {listed.id}: got {named.file}; expected a file inside the folder."
            )
        if name in MAPS and MAPS[name].file is not None:
            files[name] = MapFile(path)
    return files

"""A folder of materials: ``<root>/<material>/{albedo,normal,...}.{png,jpg,webp,dds}``, as it is found.

``<root>/<class>/<material>/`` works too. An optional ``<root>/manifest.json``, a list of objects with an
``id``, says what the pictures cannot: ``class``, ``family``, ``licence``, ``attribution`` or
``source_asset``, ``normal_convention`` (``opengl`` unless it says ``directx``), ``tileable``,
``metallic_constant``, and ``maps`` with a ``file`` each where they are named otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pbrlib.data.materials import pictures
from pbrlib.data.materials.audit import Finding, loaded
from pbrlib.data.materials.material import Entry, Material, file_stamp
from pbrlib.data.materials.pictures import Convention, Pixels
from pbrlib.data.sources.vectors import vector_findings
from pbrlib.errors import DataError
from pbrlib.maps import BORDERS, CLASSES, IGNORE, MAPS, MASK, METALLIC, NORMAL, Stored, class_id

FILES = {name: kind.file for name, kind in MAPS.items() if kind.file is not None}
"""The stems of the files of the maps that a folder may hold."""


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    file: str


class _Listed(BaseModel):
    """A material of the manifest; keys beyond these are for people."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)
    id: str = Field(min_length=1)
    label: str | None = Field(None, alias="class")
    family: str | None = None
    licence: str = ""
    attribution: str | None = None
    source_asset: str = ""
    source_repository: str = ""
    maps: Mapping[str, _File] = Field(default_factory=dict)
    normal_convention: Convention = "opengl"
    tileable: bool | None = None
    metallic_constant: float | None = Field(None, ge=0.0, le=1.0)


_MANIFEST = TypeAdapter(list[_Listed])


@dataclass(frozen=True)
class _Found:
    """A material, its pictures by map, and the file problems that are known without opening them."""

    listed: _Listed
    files: Mapping[str, Path]


class FolderSource:
    """Materials below a folder, see the module.

    The class is the manifest's, else the name of the folder above the material if it is one, else
    unknown; a class that this product does not know is unknown as well. The family is the manifest's, else
    ``family_of(id)``. Whether a material tiles is the manifest's word, else measured at its borders.

    Args:
        root: The folder.
        size: Upper bound of the longer side in pixels; larger maps are reduced, smaller ones kept.
        name: Of the source, in the index and in metrics.
    """

    def __init__(self, root: str, size: int = 1024, name: str = "materials") -> None:
        self.root, self.size, self.name = Path(root), size, name
        self._found: dict[str, _Found] | None = None

    def entries(self) -> list[Entry]:
        """The materials, sorted by id.

        Raises:
            DataError: The folder is missing or holds no material, the manifest cannot be read, or an id
                occurs twice.
        """
        found = self._listing().items()
        return [Entry(n, f.listed.family or family_of(n), label=_label(f.listed)) for n, f in found]

    def load(self, entry: Entry) -> Material:
        """Reads one material; raises DataError with everything that is wrong with it."""
        return loaded(*self.survey(entry))

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Reads one material, or None, and tells what the reading showed."""
        found = self._listing().get(entry.id)
        if found is None:
            raise DataError(f"{self.root}: no material {entry.id}. List the entries again.")
        reading = _Reading(entry.id, found, self.root, self.size)
        maps = reading.maps()
        if maps is None:
            return None, tuple(reading.findings)
        listed = found.listed
        maps, height_range = pictures.with_full_height(maps)
        material = Material(
            id=entry.id,
            family=entry.family,
            source=self.name,
            label=_label(listed),
            tileable=reading.tileable(),
            licence=listed.licence or "unknown",
            attribution=_attribution(listed),
            maps=maps,
            height_range=height_range,
        )
        return material, tuple(reading.findings)

    def stamp(self, entry: Entry) -> str:
        """Its settings, what the manifest says of the material, and its files."""
        found = self._listing()[entry.id]
        files = {name: file_stamp(path) for name, path in found.files.items()}
        return json.dumps([self.name, self.size, found.listed.model_dump(mode="json"), files])

    def __getstate__(self) -> dict[str, Any]:
        """Without the listing: a task that reads a few materials need not carry thousands."""
        return {**self.__dict__, "_found": None}

    def _listing(self) -> dict[str, _Found]:
        if self._found is None:
            self._found = _listing(self.root)
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


class _Reading:
    """The reading of one material: collects what is wrong instead of stopping at the first."""

    def __init__(self, name: str, found: _Found, root: Path, size: int) -> None:
        self.findings: list[Finding] = []
        self._name, self._found, self._root, self._size = name, found, root, size
        self._seams: list[float] = []

    def maps(self) -> dict[str, Stored] | None:
        """The stored maps, or None if an error was found."""
        self._check_complete()
        stored: dict[str, Stored] = {}
        sizes: dict[str, tuple[int, int]] = {}
        for name, path in self._found.files.items():
            try:
                pixels = pictures.read_pixels(path)
            except DataError as error:
                self._add(name, "undecodable", str(error))
                continue
            sizes[name] = (pixels.shape[0], pixels.shape[1])
            try:
                stored[name] = self._stored(name, pixels)
            except DataError as error:
                self._add(name, "channels", f"{path}: {error}")
        self._check_sizes(sizes)
        if any(finding.severity == "error" for finding in self.findings):
            return None
        return self._completed(stored)

    def tileable(self) -> bool:
        """Whether the material tiles, by the manifest or by its borders."""
        said = self._found.listed.tileable
        return said if said is not None else pictures.tiles(self._seams)

    def _stored(self, name: str, pixels: Pixels) -> Stored:
        convention = self._found.listed.normal_convention
        stored = pictures.to_stored(pixels, MAPS[name], size=self._size, convention=convention)
        if name == NORMAL.name:
            self.findings += vector_findings(pixels, material=self._name, file=self._found.files[name])
        if name in BORDERS and self._found.listed.tileable is None:
            self._seams.append(pictures.seam_over_quantile(pixels, quantile=0.95))
        return stored

    def _completed(self, stored: dict[str, Stored]) -> dict[str, Stored]:
        listed, size = self._found.listed, stored["normal"].shape[:2]
        if METALLIC.name not in stored and listed.metallic_constant is not None:
            stored[METALLIC.name] = pictures.constant_map(listed.metallic_constant, METALLIC, size=size)
        if MASK.name not in stored:
            label = class_id(listed.label) if listed.label in CLASSES else IGNORE
            stored[MASK.name] = np.full((*size, 1), label, np.uint8)
        return {name: stored[name] for name in MAPS if name in stored}

    def _check_complete(self) -> None:
        place, files = self._root / self._name, self._found.files
        listing = ", ".join(sorted(files)) or "no map at all"
        if "normal" not in files:
            self._add("normal", "missing", f"{place}: no normal map, only {listing}. Add normal.png.")
        if "albedo" not in files and "diffuse" not in files:
            message = f"{place}: neither albedo nor diffuse, only {listing}. Add albedo.png or diffuse.png."
            self._add("albedo", "missing", message)

    def _check_sizes(self, sizes: Mapping[str, tuple[int, int]]) -> None:
        if len(set(sizes.values())) > 1:
            listing = ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items())
            message = f"{self._root / self._name}: maps of different size: {listing}. Bring them to one size."
            self._add("", "size", message)

    def _add(self, name: str, check: str, message: str) -> None:
        self.findings.append(Finding(self._name, name, check, "error", message))


def _listing(root: Path) -> dict[str, _Found]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give a folder with a subfolder for each material.")
    listed = {}
    for one in _manifest(root / "manifest.json"):
        if one.id in listed:
            raise DataError(f"{root / 'manifest.json'}: {one.id} is listed twice. Remove one.")
        listed[one.id] = one
    folders = _folders(root)
    found = {}
    for name in sorted({*listed, *folders}):
        folder = folders.get(name)
        above = folder.parent.name if folder is not None else None
        one = listed.get(name) or _Listed(id=name, label=above if above in CLASSES else None)
        found[name] = _Found(one, ({} if folder is None else _files(folder)) | _named_files(one, root))
    if not found:
        raise DataError(f"{root}: no material. Each is a subfolder with at least normal.png and albedo.png.")
    return found


def _folders(root: Path) -> dict[str, Path]:
    """The folders of materials by name, those below a folder named like a class included."""
    candidates = [path for path in sorted(root.iterdir()) if path.is_dir()]
    nested = [p for c in candidates if c.name in CLASSES for p in sorted(c.iterdir()) if p.is_dir()]
    folders: dict[str, Path] = {}
    for folder in (*candidates, *nested):
        if not _files(folder):
            continue
        if folder.name in folders:
            raise DataError(f"{folder}: {folders[folder.name]} has the same name. Rename one of them.")
        folders[folder.name] = folder
    return folders


def _files(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by map; of several with one stem the first in the order of suffixes."""
    if not folder.is_dir():
        return {}
    by_name = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    places = {name: [stem + suffix for suffix in pictures.SUFFIXES] for name, stem in FILES.items()}
    hits = {name: [by_name[n] for n in names if n in by_name] for name, names in places.items()}
    return {name: paths[0] for name, paths in hits.items() if paths}


def _named_files(listed: _Listed, root: Path) -> dict[str, Path]:
    files = {}
    for name, one in listed.maps.items():
        path = root / one.file
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{root / 'manifest.json'}: {listed.id}: {one.file} lies outside of the folder.")
        if name in FILES:
            files[name] = path
    return files


def _manifest(path: Path) -> list[_Listed]:
    if not path.exists():
        return []
    try:
        content: Any = json.loads(path.read_bytes())
        return _MANIFEST.validate_python(content)
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise DataError(
            f"{path}: {reason}. Write a list of objects, each with at least an id, or remove it."
        ) from error


def _label(listed: _Listed) -> str | None:
    return listed.label if listed.label in CLASSES else None


def _attribution(listed: _Listed) -> str:
    parts = [part for part in (listed.source_asset, listed.source_repository) if part]
    return listed.attribution if listed.attribution is not None else ", ".join(parts)

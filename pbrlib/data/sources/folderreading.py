"""Reads a material of a folder: decodes its pictures, checks them, and converts them to stored maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pbrlib.data.materials import pictures
from pbrlib.data.materials.audit import Finding, Severity
from pbrlib.data.materials.decoding import Pixels, read_pixels, use_of
from pbrlib.data.materials.pictures import Convention
from pbrlib.data.sources.foldermanifest import ListedMaterial
from pbrlib.data.sources.materialfolders import MapFile, UnreadFile
from pbrlib.data.sources.vectors import vector_findings
from pbrlib.errors import DataError
from pbrlib.maps import ALBEDO, DIFFUSE, IGNORE, MAPS, MASK, METALLIC, NORMAL, SEAM_MAPS, Stored, class_id

WITH_ALBEDO = frozenset(MAPS) - {ALBEDO.name, DIFFUSE.name, NORMAL.name, MASK.name}
"""Maps that are published with an albedo; if a material has one of them, its diffuse may be an albedo."""


@dataclass(frozen=True)
class FoundMaterial:
    """A material: its entry of the manifest, its files by map, and its unread files."""

    listed: ListedMaterial
    files: Mapping[str, MapFile]
    unused: tuple[UnreadFile, ...] = ()


class MaterialReader:
    """Reads one material, and collects all errors instead of raising the first one."""

    def __init__(self, name: str, found: FoundMaterial, root: Path, size: int) -> None:
        self.findings: list[Finding] = []
        self._name, self._found, self._root, self._size = name, found, root, size
        self._seams: list[float] = []
        self._decoded: dict[tuple[Path, str], Pixels] = {}

    def maps(self) -> dict[str, Stored] | None:
        """Return the stored maps, or None if an error was found."""
        self._check_complete()
        self._note_unused()
        stored: dict[str, Stored] = {}
        sizes: dict[str, tuple[int, int]] = {}
        for name, file in self._found.files.items():
            try:
                pixels = self._pixels(name, file)
            except DataError as error:
                self._add(name, "undecodable", str(error))
                continue
            sizes[name] = (pixels.shape[0], pixels.shape[1])
            try:
                stored[name] = self._stored(name, pixels, file)
            except DataError as error:
                self._add(name, "channels", f"{file.path}: {error}")
        self._check_sizes(sizes)
        if any(finding.severity == "error" for finding in self.findings):
            return None
        return self._add_missing_maps(stored)

    def tileable(self) -> bool:
        """Whether the material is tileable: the manifest's statement, or measured at its borders."""
        listed = self._found.listed.tileable
        return listed if listed is not None else pictures.is_tileable(self._seams)

    def _pixels(self, name: str, file: MapFile) -> Pixels:
        """Return the decoded pixels of a map; a file with several maps is decoded once."""
        use = use_of(MAPS[name])
        if (file.path, use) not in self._decoded:
            decoded = read_pixels(file.path, use=use)
            self._decoded[file.path, use] = decoded.pixels
            for note in decoded.notes:
                self._add(name, "metadata", f"{file.path.name}: {note}", severity="note")
        pixels = self._decoded[file.path, use]
        if file.channel is None:
            return pixels
        if pixels.shape[-1] == 1:
            raise DataError(
                f"{file.path}: got one channel; expected a map in each of three. Rename it after its map."
            )
        return pixels[..., file.channel : file.channel + 1]

    def _stored(self, name: str, pixels: Pixels, file: MapFile) -> Stored:
        if name != NORMAL.name and file.is_inverted:
            pixels = np.iinfo(pixels.dtype).max - pixels
            self._add(name, "opposite", f"{file.path.name} is read as 1 - {name}", severity="note")
        convention = self._convention(file)
        stored = pictures.to_stored(pixels, MAPS[name], size=self._size, convention=convention)
        if name == NORMAL.name:
            self.findings += vector_findings(pixels, material=self._name, file=file.path)
        if name in SEAM_MAPS and self._found.listed.tileable is None:
            self._seams.append(pictures.seam_ratio(pixels, quantile=0.95))
        return stored

    def _convention(self, file: MapFile) -> Convention:
        """Return the convention of the file's name, else of the manifest, else OpenGL."""
        listed = self._found.listed.normal_convention
        named: Convention | None = "directx" if file.is_inverted else "opengl" if file.is_opengl else None
        if named is not None and listed not in (None, named):
            message = (
                f"{file.path.name} is read as {named}, but manifest.json has {listed}. Correct one of them."
            )
            self._add(NORMAL.name, "convention", message, severity="warning")
        return named or listed or "opengl"

    def _add_missing_maps(self, stored: dict[str, Stored]) -> dict[str, Stored]:
        listed, size = self._found.listed, stored["normal"].shape[:2]
        if METALLIC.name not in stored and listed.metallic_constant is not None:
            stored[METALLIC.name] = pictures.constant_map(listed.metallic_constant, METALLIC, size=size)
        if MASK.name not in stored:
            label = IGNORE if listed.known_class is None else class_id(listed.known_class)
            stored[MASK.name] = np.full((*size, 1), label, np.uint8)
        return {name: stored[name] for name in MAPS if name in stored}

    def _check_complete(self) -> None:
        place, files = self._root / self._name, self._found.files
        listing = ", ".join(sorted(files)) or "no map at all"
        if NORMAL.name not in files:
            self._add("normal", "missing", f"{place}: no normal map, only {listing}. Add normal.png.")
        if ALBEDO.name not in files and DIFFUSE.name not in files:
            message = f"{place}: neither albedo nor diffuse, only {listing}. Add albedo.png or diffuse.png."
            self._add("albedo", "missing", message)
        elif ALBEDO.name not in files and not WITH_ALBEDO.isdisjoint(files):
            name = files[DIFFUSE.name].path.name
            if name.startswith(f"{DIFFUSE.file}."):  # this name always means an old diffuse
                return
            message = f"{name} is read as an old diffuse with painted light. If it has none, name it albedo."
            self._add("diffuse", "no albedo", message, severity="warning")

    def _note_unused(self) -> None:
        """Add a note on every unread picture, or a warning if the material has no such map."""
        for file in self._found.unused:
            lost = [name for name in file.maps if name not in self._found.files]
            without = f" The material has no {', '.join(lost)}." if lost else ""
            message = f"{file.path}: not read: {file.reason.removesuffix('.')}.{without}"
            severity: Severity = "warning" if lost else "note"
            self._add(lost[0] if lost else "", file.check, message, severity=severity)

    def _check_sizes(self, sizes: Mapping[str, tuple[int, int]]) -> None:
        if len(set(sizes.values())) > 1:
            listing = ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items())
            place = self._root / self._name
            message = f"{place}: got maps of different size: {listing}; expected one size. Resize them."
            self._add("", "size", message)

    def _add(self, name: str, check: str, message: str, *, severity: Severity = "error") -> None:
        self.findings.append(Finding(self._name, name, check, severity, message))

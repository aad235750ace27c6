"""Reads the optional ``manifest.json`` of a folder of materials, with facts that the pictures do not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.pictures import Convention
from pbrlib.errors import DataError
from pbrlib.maps import CLASSES, MAPS

NAME = "manifest.json"


class NamedFile(BaseModel):
    """The file of a map, relative to the root of the folder."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    file: str


class ListedMaterial(BaseModel):
    """A material of the manifest; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)
    id: str = Field(min_length=1)
    label: str | None = Field(None, alias="class")
    family: str | None = None
    licence: str = ""
    attribution: str | None = None
    source_asset: str = ""
    source_repository: str = ""
    maps: Mapping[str, NamedFile] = Field(default_factory=dict)
    normal_convention: Convention | None = None
    tileable: bool | None = None
    metallic_constant: float | None = Field(None, ge=0.0, le=1.0)

    @property
    def known_class(self) -> str | None:
        """The class, or None if the product does not have it."""
        return self.label if self.label in CLASSES else None

    @property
    def credit(self) -> str:
        """The attribution, or the origin of the material if there is none."""
        parts = [part for part in (self.source_asset, self.source_repository) if part]
        return self.attribution if self.attribution is not None else ", ".join(parts)


@dataclass(frozen=True)
class FolderManifest:
    """The materials by id, findings on entries, and the ids of entries that cannot be used."""

    materials: Mapping[str, ListedMaterial]
    findings: tuple[Finding, ...]
    refused: frozenset[str]


def read_folder_manifest(root: Path) -> FolderManifest:
    """Read the manifest of a folder; the result is empty if there is no manifest.

    If an entry cannot be used, its material is excluded, since it would be read with a wrong class, licence
    or convention.

    Raises:
        DataError: The manifest is no list of JSON objects.
    """
    place = root / NAME
    materials: dict[str, ListedMaterial] = {}
    findings: list[Finding] = []
    refused: set[str] = set()
    for number, entry in enumerate(_entries(place)):
        name = entry.get("id") if isinstance(entry, dict) else None
        where = f"{place}: entry {number}"
        try:
            listed = ListedMaterial.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            message = f"{where}: {field}: {first['msg']}. Correct the entry; its material is left out."
            findings.append(Finding(str(name or f"entry {number}"), "", "manifest", "error", message))
            refused |= {name} if isinstance(name, str) else set()
            continue
        if listed.id in materials:
            message = f"{where}: got {listed.id} again; expected each id once. The first entry is used."
            findings.append(Finding(f"{listed.id} (again)", "", "manifest", "error", message))
            continue
        materials[listed.id] = listed
        findings += _unused_values(listed, where)
    return FolderManifest(materials, tuple(findings), frozenset(refused))


def _unused_values(listed: ListedMaterial, where: str) -> list[Finding]:
    """Return notes on the values of an entry that are not used."""
    remarks = []
    if listed.label is not None and listed.known_class is None:
        near = get_close_matches(listed.label.lower(), CLASSES, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(CLASSES)}."
        message = f"{where}: got the unknown class {listed.label!r}; the material has no class. {hint}"
        remarks.append(Finding(listed.id, "", "class", "note", message))
    known = [name for name, kind in MAPS.items() if kind.file is not None]
    other = [name for name in listed.maps if name not in known]
    if other:
        message = f"{where}: maps {', '.join(other)} are not read; expected some of {', '.join(known)}"
        remarks.append(Finding(listed.id, "", "manifest maps", "note", message))
    return remarks


def _entries(place: Path) -> list[Any]:
    if not place.exists():
        return []
    try:
        content: Any = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{place}: cannot be read as JSON ({error}). Correct it, since it has classes and licences."
        ) from error
    if isinstance(content, dict) and "shards" in content:
        raise DataError(
            f"{place}: got a prepared shard set; expected a folder of materials. Train "
            f"on it with --data {place.parent}, or give the folder that it was prepared from."
        )
    if not isinstance(content, list):
        raise DataError(f"{place}: got {type(content).__name__}; expected a list of objects with an id each.")
    return content

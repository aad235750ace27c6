"""The source MatSynth (Vecchio and Deschaintre 2023): Parquet files with one material per row.

Its ``basecolor`` is the albedo. ``diffuse`` and ``specular`` belong to the specular workflow and are not
read. Ambient occlusion is computed from the height. Normals are OpenGL, and all materials are tileable.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from pbrlib.data.materials import pictures
from pbrlib.data.materials.audit import Finding, require_material
from pbrlib.data.materials.decoding import decode_pixels, use_of
from pbrlib.data.materials.material import Entry, Material, file_stamp
from pbrlib.data.sources.hub import HubRow, find_files, list_rows, read_image, read_row
from pbrlib.data.sources.matsynthnames import (
    BLEND_PREFIX,
    BLEND_SEPARATOR,
    family_of,
    licence_kind,
    without_leading_zeros,
)
from pbrlib.data.sources.settings import Reader, parse_flag, read_settings, split_list
from pbrlib.data.sources.vectors import vector_findings
from pbrlib.errors import ConfigError, DataError
from pbrlib.maps import AO, CLASSES, HEIGHT, MAPS, MASK, NORMAL, Stored, class_id

NAME = "matsynth"

COLUMNS = {
    "albedo": "basecolor",
    "normal": "normal",
    "roughness": "roughness",
    "metallic": "metallic",
    "height": "height",
}
"""The column of each map that is read."""

REQUIRED_COLUMNS = ("basecolor", "normal")
"""The required columns; all others are optional."""

EXCLUDED_CATEGORIES = ("misc", "plaster", "plastic", "terracotta")
"""Categories that belong to no class and are left out."""

CATEGORY_CLASSES = {"concrete": "stone", "marble": "stone"}
"""Categories whose class has another name; the other categories have the name of their class."""

RELIEF_RANGE = (0.0024, 0.112)
"""Minimum and maximum height of the relief of real materials, as a share of their side."""

AO_RADIUS = 1 / 16
"""Radius of the ambient occlusion, as a share of the side; the generated materials use the same."""


class MatSynthSource:
    """The rows of MatSynth's files with a class of the product and an accepted licence.

    Args:
        path: A file, a folder of files, or a pattern such as ``/data/matsynth/*.parquet``.
        size: Maximum of the side in pixels; the originals have 4096.
        licences: The accepted licences, such as ``CC0``, in any version; all licences if empty.
        keep_marble: Whether marble has no class instead of the class stone. Albedo and maps are trained on
            it then, segmentation is not.
    """

    name = NAME

    def __init__(
        self, path: str, *, size: int = 1024, licences: Sequence[str] = (), keep_marble: bool = False
    ) -> None:
        self.path, self.size, self.keep_marble = path, size, keep_marble
        self.licences = tuple(licences)
        self._listing: tuple[list[HubRow], list[Finding]] | None = None

    @classmethod
    def parse(cls, text: str, *, size: int) -> MatSynthSource:
        """Parse a source such as ``matsynth:path=/data/*.parquet,licences=CC0+CC-BY,keep_marble=false``.

        Raises:
            ConfigError: A key is unknown, or a value cannot be read.
        """
        readers: dict[str, Reader] = {"path": str, "licences": split_list, "keep_marble": parse_flag}
        example = f"{NAME}:path=/data/matsynth/*.parquet"
        return cls(size=size, **read_settings(text, readers=readers, example=example))

    def entries(self) -> list[Entry]:
        """List the materials in the order of files and rows; reads names, categories and licences only.

        A blend belongs to the family of its first parent, and is a relative of the others, see ``family_of``.

        Raises:
            DataError: There is no file.
            ConfigError: No row has one of the accepted licences.
        """
        offered = [row for row in self._list()[0] if self._reason(row) is None]
        originals: dict[str, list[str]] = defaultdict(list)
        for row in offered:
            if BLEND_SEPARATOR not in row.name:
                without_origin = row.name.lower().partition("_")[2]
                originals[without_leading_zeros(without_origin)].append(family_of(row.name))
        return [_entry(row, originals, label=self._label(row.category)) for row in offered]

    def left_out(self) -> list[Finding]:
        """Return a note on every excluded row, and an error on every file and row that cannot be listed."""
        rows, problems = self._list()
        reasons = [(row, self._reason(row)) for row in rows]
        return [
            *problems,
            *(Finding(row.name, "", why, "note", why) for row, why in reasons if why is not None),
        ]

    def load(self, entry: Entry) -> Material:
        """Read a row; raises DataError with all of its errors."""
        return require_material(*self.survey(entry))

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Read the images of a row, one at a time, and return the material, or None, and all findings.

        Raises:
            DataError: An image is broken, albedo or normal are missing, or the images differ in size.
        """
        row = read_row(entry.place, name=entry.id)
        label = self._label(row.category)
        read, findings = _maps(row, size=self.size)
        if any(finding.severity == "error" for finding in findings):
            return None, findings
        maps, height_range = pictures.with_rescaled_height(read)
        if HEIGHT.name in maps:
            maps[AO.name] = occlusion(maps[HEIGHT.name], normal=maps[NORMAL.name])
        if label is not None:
            maps[MASK.name] = np.full((*maps["normal"].shape[:2], 1), class_id(label), np.uint8)
        material = Material(
            id=entry.id,
            family=entry.family,
            source=self.name,
            label=label,
            tileable=True,
            licence=row.licence or "unknown",
            attribution=", ".join(filter(None, (*row.authors, row.link))),
            maps={name: maps[name] for name in MAPS if name in maps},
            height_range=height_range,
        )
        return material, findings

    def stamp(self, entry: Entry) -> str:
        """Return a text of the settings, the row, and the stamp of its file."""
        file, _, row = entry.place.rpartition("#")
        return json.dumps([self.name, self.size, self.keep_marble, row, file_stamp(Path(file))])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the listing, since an entry has the place of its row."""
        return {**self.__dict__, "_listing": None}

    def _list(self) -> tuple[list[HubRow], list[Finding]]:
        if self._listing is None:
            rows, problems = _list_files(find_files(self.path))
            _check_licences(self.licences, rows, path=self.path)
            self._listing = rows, problems
        return self._listing

    def _reason(self, row: HubRow) -> str | None:
        """Return why a row is excluded, or None if it is not."""
        if row.category in EXCLUDED_CATEGORIES:
            return f"{row.category} belongs to no class; left out"
        if self.licences and licence_kind(row.licence) not in map(licence_kind, self.licences):
            return f"licence {row.licence or 'unknown'} is not accepted; left out"
        return None

    def _label(self, category: str) -> str | None:
        if self.keep_marble and category == "marble":
            return None
        label = CATEGORY_CLASSES.get(category, category)
        assert label in CLASSES, f"{label}: rows of this category are excluded"
        return label


def occlusion(height: Stored, *, normal: Stored) -> Stored:
    """Return the ambient occlusion ``(H, W, 1)`` of a tileable height map, computed on a GPU if there is one.

    The height of the relief is fitted to the normals by least squares, within the range of real materials. It
    is not read from the data: ``physical_size`` is mostly missing, and ``height_factor`` is undocumented and
    a placeholder for blends. The networks predict occlusion from these normals.
    """
    import torch

    from pbrlib.geometry import ao_from_height, relief_scale

    # Many tasks prepare materials at the same time, so they are spread over the GPUs of their node.
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", os.getpid() % gpus) if gpus else torch.device("cpu")
    raised, vectors = (
        MAPS[name].decode(torch.from_numpy(np.ascontiguousarray(stored.transpose(2, 0, 1)))[None].to(device))
        for name, stored in (("height", height), ("normal", normal))
    )
    side = max(height.shape[:2])
    scale = relief_scale(raised, vectors, tileable=True).clamp(RELIEF_RANGE[0] * side, RELIEF_RANGE[1] * side)
    open_sky = ao_from_height(
        raised, scale_px=scale, tileable=True, radius_px=max(2, round(side * AO_RADIUS))
    )
    return AO.quantise(open_sky[0].permute(1, 2, 0).cpu().numpy())


def _list_files(files: Iterable[str]) -> tuple[list[HubRow], list[Finding]]:
    """Return the rows of all files, the first of each name, and findings on files and other rows."""
    rows: dict[str, HubRow] = {}
    findings: list[Finding] = []
    optional = [column for column in COLUMNS.values() if column not in REQUIRED_COLUMNS]
    for file in files:
        name = Path(file).name
        try:
            listing = list_rows(file, required=REQUIRED_COLUMNS, optional=optional)
        except DataError as error:
            findings.append(Finding(name, "", "unreadable", "error", str(error)))
            continue
        findings += [
            Finding(problem.partition(": ")[0], "", "row", "error", problem) for problem in listing.problems
        ]
        if listing.absent and listing.rows:
            message = f"{file}: no column {', '.join(listing.absent)}; its materials do not have these maps"
            findings.append(Finding(name, "", "column", "warning", message))
        for row in listing.rows:
            taken = rows.setdefault(row.name, row)
            if taken is not row:
                message = (
                    f"{row.place}: got the name {row.name}, as in {taken.place}; expected each name once. "
                    "The first row is used. Rename the other row, or remove it."
                )
                findings.append(Finding(f"{row.name} (again)", "", "twice", "error", message))
    return list(rows.values()), findings


def _check_licences(wanted: Iterable[str], rows: Sequence[HubRow], *, path: str) -> None:
    found = {licence_kind(row.licence) for row in rows}
    for licence in wanted if rows else ():
        if licence_kind(licence) in found:
            continue
        near = get_close_matches(licence_kind(licence), found, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Use some of {', '.join(sorted(found))}."
        raise ConfigError(f"{path}: no row has the licence {licence}. {hint}")


def _maps(row: HubRow, *, size: int) -> tuple[dict[str, Stored], tuple[Finding, ...]]:
    maps: dict[str, Stored] = {}
    findings: list[Finding] = []
    sizes: dict[str, tuple[int, int]] = {}
    for name, column in COLUMNS.items():
        place = f"{row.place}: {row.name}: {column}"
        image = read_image(row, column)
        if image is None:
            findings.append(_missing(row, name))
            continue
        decoded = decode_pixels(image, place=place, use=use_of(MAPS[name]))
        pixels = decoded.pixels
        findings += [Finding(row.name, name, "metadata", "note", f"{column}: {n}") for n in decoded.notes]
        sizes[column] = (pixels.shape[0], pixels.shape[1])
        try:
            maps[name] = pictures.to_stored(pixels, MAPS[name], size=size)
            if name == NORMAL.name:
                findings += vector_findings(pixels, material=row.name, file=place)
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{column} {width}x{height}" for column, (height, width) in sizes.items())
        raise DataError(
            f"{row.place}: {row.name}: got images of different size: {listing}; expected one size. Resize "
            "them, or remove the row."
        )
    return maps, tuple(findings)


def _missing(row: HubRow, name: str) -> Finding:
    """Return a warning on a missing image; raises DataError for a required image."""
    column = COLUMNS[name]
    place = f"{row.place}: {row.name}: {column}"
    if column in REQUIRED_COLUMNS:
        raise DataError(f"{place}: no image; expected an image. Remove the row, or add its {column}.")
    without = f"{name}, and no occlusion" if name == HEIGHT.name else name
    message = f"{place}: no image; the material has no {without}"
    return Finding(row.name, name, "missing", "warning", message)


def _entry(row: HubRow, originals: Mapping[str, Sequence[str]], *, label: str | None) -> Entry:
    """Return the entry of a row; ``originals`` are the families of rows that are no blends, by plain name."""
    _, blended, _ = row.name.partition(BLEND_SEPARATOR)
    if not blended:
        return Entry(row.name, family_of(row.name), place=row.place, label=label)
    parents = row.name.lower().removeprefix(BLEND_PREFIX).split(BLEND_SEPARATOR)
    known = [family for parent in parents for family in originals.get(without_leading_zeros(parent), ())]
    families = list(dict.fromkeys(known or [family_of(row.name)]))
    return Entry(row.name, families[0], relatives=tuple(families[1:]), place=row.place, label=label)

"""MatSynth (Vecchio and Deschaintre 2023) as Hugging Face stores it: Parquet files, a row a material.

Its ``basecolor`` is our albedo. ``diffuse`` and ``specular`` are of another workflow: no old texture, never
read. There is no ambient occlusion; it is derived from the height. Normals are OpenGL, all materials tile.
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
from pbrlib.data.materials.audit import Finding, loaded
from pbrlib.data.materials.decoding import decode_pixels, use_of
from pbrlib.data.materials.material import Entry, Material, file_stamp
from pbrlib.data.sources.hub import HubRow, find_files, list_rows, read_image, read_row
from pbrlib.data.sources.matsynthnames import BLEND, BLENDED_WITH, family_of, licence_kind, plain
from pbrlib.data.sources.settings import Reader, flag, joined, read_settings
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

REQUIRED = ("basecolor", "normal")
"""The columns without which a row is no material; of the others it may lack any."""

DROPPED = ("misc", "plaster", "plastic", "terracotta")
"""Categories that are none of our classes and are left out."""

RENAMED = {"concrete": "stone", "marble": "stone"}
"""Categories that count as a class of another name; the rest are called like their class."""

RELIEF = (0.0024, 0.112)
"""Height of the relief of real materials as a share of their side, least and most."""

AO_RADIUS = 1 / 16
"""How far occlusion reaches, as a share of the side; the generated materials take the same."""


class MatSynthSource:
    """The rows of MatSynth's files that are of our classes and of the licences asked for.

    ``fur``, which would be a class from 100 samples on, is no category of MatSynth.

    Args:
        path: A file, a folder of files, or a pattern such as ``/data/matsynth/*.parquet``.
        size: Upper bound of the side in pixels; the originals have 4096.
        licences: The licences to take, such as ``CC0``, whatever their version; all of them if empty.
        keep_marble: Marble keeps its own name instead of counting as stone. Since marble is none of the
            seven classes, it is then of no class: it trains albedo and maps, and segmentation leaves it out.
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
        """Reads ``matsynth:path=/data/*.parquet,licences=CC0+CC-BY,keep_marble=false``.

        Raises:
            ConfigError: an unknown key, or a value that cannot be read.
        """
        readers: dict[str, Reader] = {"path": str, "licences": joined, "keep_marble": flag}
        example = f"{NAME}:path=/data/matsynth/*.parquet"
        return cls(size=size, **read_settings(text, readers=readers, example=example))

    def entries(self) -> list[Entry]:
        """The materials in the order of files and rows; reads names, categories and licences only.

        A blend is of the family of its first parent, and a relative of the others, see ``family_of``.

        Raises:
            DataError: There is no file.
            ConfigError: A licence that no row has.
        """
        offered = [row for row in self._listed()[0] if self._reason(row) is None]
        originals: dict[str, list[str]] = defaultdict(list)
        for row in offered:
            if BLENDED_WITH not in row.name:
                without_origin = row.name.lower().partition("_")[2]
                originals[plain(without_origin)].append(family_of(row.name))
        return [_entry(row, originals, label=self._label(row.category)) for row in offered]

    def left_out(self) -> list[Finding]:
        """A note on every row that is not offered, an error on every file and row that cannot be listed."""
        rows, problems = self._listed()
        reasons = [(row, self._reason(row)) for row in rows]
        return [
            *problems,
            *(Finding(row.name, "", why, "note", why) for row, why in reasons if why is not None),
        ]

    def load(self, entry: Entry) -> Material:
        """Reads one row; raises DataError with what is wrong with it."""
        return loaded(*self.survey(entry))

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Reads the images of one row, one at a time, or None, and says what the reading showed.

        Raises:
            DataError: An image is broken, albedo or normal are missing, or the images differ in size; names
                file, row and map.
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
        """Its settings, the row, and the file that holds it."""
        file, _, row = entry.place.rpartition("#")
        return json.dumps([self.name, self.size, self.keep_marble, row, file_stamp(Path(file))])

    def __getstate__(self) -> dict[str, Any]:
        """Without the listing: an entry names the place of its row."""
        return {**self.__dict__, "_listing": None}

    def _listed(self) -> tuple[list[HubRow], list[Finding]]:
        if self._listing is None:
            rows, problems = _list_files(find_files(self.path))
            _check_licences(self.licences, rows, path=self.path)
            self._listing = rows, problems
        return self._listing

    def _reason(self, row: HubRow) -> str | None:
        """Why a row is not offered; None if it is."""
        if row.category in DROPPED:
            return f"{row.category} is none of the classes; left out"
        if self.licences and licence_kind(row.licence) not in map(licence_kind, self.licences):
            return f"licence {row.licence or 'unknown'} is not asked for; left out"
        return None

    def _label(self, category: str) -> str | None:
        if self.keep_marble and category == "marble":
            return None
        label = RENAMED.get(category, category)
        assert label in CLASSES, f"a row of {label} is not offered"
        return label


def occlusion(height: Stored, *, normal: Stored) -> Stored:
    """Horizon-based occlusion of a height that tiles, on the GPU where there is one; maps ``(H, W, 1)``.

    How high the relief is follows from the normals, by least squares, within the span of real materials:
    ``physical_size`` is mostly missing, ``height_factor`` is undocumented and a placeholder on blends, and
    the networks predict occlusion from these normals.
    """
    import torch

    from pbrlib.geometry import ao_from_height, relief_scale

    # Many tasks prepare at once: they spread over the GPUs of their node.
    gpus = torch.cuda.device_count()
    device = torch.device("cuda", os.getpid() % gpus) if gpus else torch.device("cpu")
    raised, vectors = (
        MAPS[name].decode(torch.from_numpy(np.ascontiguousarray(stored.transpose(2, 0, 1)))[None].to(device))
        for name, stored in (("height", height), ("normal", normal))
    )
    side = max(height.shape[:2])
    scale = relief_scale(raised, vectors, tileable=True).clamp(RELIEF[0] * side, RELIEF[1] * side)
    open_sky = ao_from_height(
        raised, scale_px=scale, tileable=True, radius_px=max(2, round(side * AO_RADIUS))
    )
    return AO.quantise(open_sky[0].permute(1, 2, 0).cpu().numpy())


def _list_files(files: Iterable[str]) -> tuple[list[HubRow], list[Finding]]:
    """The rows of all files by name, the first of each; and what is wrong with the files and other rows."""
    rows: dict[str, HubRow] = {}
    findings: list[Finding] = []
    optional = [column for column in COLUMNS.values() if column not in REQUIRED]
    for file in files:
        name = Path(file).name
        try:
            listing = list_rows(file, required=REQUIRED, optional=optional)
        except DataError as error:
            findings.append(Finding(name, "", "unreadable", "error", str(error)))
            continue
        findings += [
            Finding(problem.partition(": ")[0], "", "row", "error", problem) for problem in listing.problems
        ]
        if listing.absent and listing.rows:
            message = f"{file}: no column {', '.join(listing.absent)}; its materials go without"
            findings.append(Finding(name, "", "column", "warning", message))
        for row in listing.rows:
            taken = rows.setdefault(row.name, row)
            if taken is not row:
                message = (
                    f"{row.place}: {row.name} is the name of {taken.place} too; expected each name once. The "
                    "first is taken. Rename the other row, or leave it out."
                )
                findings.append(Finding(f"{row.name} (again)", "", "twice", "error", message))
    return list(rows.values()), findings


def _check_licences(wanted: Iterable[str], rows: Sequence[HubRow], *, path: str) -> None:
    found = {licence_kind(row.licence) for row in rows}
    for licence in wanted if rows else ():
        if licence_kind(licence) in found:
            continue
        near = get_close_matches(licence_kind(licence), found, n=1)
        way_out = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(found))}."
        raise ConfigError(f"{path}: no row is licensed {licence}. {way_out}")


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
            f"{row.place}: {row.name}: images of different size: {listing}; expected one size. Bring them to "
            "one size, or leave the row out."
        )
    return maps, tuple(findings)


def _missing(row: HubRow, name: str) -> Finding:
    """What it means that a row lacks the image of a map; raises DataError where it cannot."""
    column = COLUMNS[name]
    place = f"{row.place}: {row.name}: {column}"
    if column in REQUIRED:
        raise DataError(f"{place}: no image; expected one. Leave the row out, or add its {column}.")
    without = f"{name}, and no occlusion" if name == HEIGHT.name else name
    message = f"{place}: no image; the material goes without {without}"
    return Finding(row.name, name, "missing", "warning", message)


def _entry(row: HubRow, originals: Mapping[str, Sequence[str]], *, label: str | None) -> Entry:
    """An entry; ``originals`` are the families of what is no blend, by name without origin."""
    _, blended, _ = row.name.partition(BLENDED_WITH)
    if not blended:
        return Entry(row.name, family_of(row.name), place=row.place, label=label)
    parents = row.name.lower().removeprefix(BLEND).split(BLENDED_WITH)
    known = [family for parent in parents for family in originals.get(plain(parent), ())]
    families = list(dict.fromkeys(known or [family_of(row.name)]))
    return Entry(row.name, families[0], relatives=tuple(families[1:]), place=row.place, label=label)

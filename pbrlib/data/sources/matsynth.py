"""MatSynth (Vecchio and Deschaintre 2023) as Hugging Face stores it: Parquet files, a row a material.

Its ``basecolor`` is our albedo. ``diffuse`` and ``specular`` are of another workflow: no old texture, never
read. There is no ambient occlusion; it is derived from the height. Normals are OpenGL, all materials tile.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from pbrlib.data.materials import pictures
from pbrlib.data.materials.audit import Finding, loaded
from pbrlib.data.materials.material import Entry, Material, file_stamp
from pbrlib.data.sources.hub import HubRow, find_files, list_rows, read_image, read_row
from pbrlib.data.sources.settings import Reader, flag, joined, read_settings
from pbrlib.data.sources.vectors import vector_findings
from pbrlib.errors import ConfigError, DataError
from pbrlib.maps import AO, CLASSES, MAPS, MASK, NORMAL, Stored, class_id

NAME = "matsynth"

COLUMNS = {
    "albedo": "basecolor",
    "normal": "normal",
    "roughness": "roughness",
    "metallic": "metallic",
    "height": "height",
}
"""The column of each map that is read."""

DROPPED = ("misc", "plaster", "plastic", "terracotta")
"""Categories that are none of our classes and are left out."""

RENAMED = {"concrete": "stone", "marble": "stone"}
"""Categories that count as a class of another name; the rest are called like their class."""

BLEND, BLENDED_WITH = "ms_", "__"
"""The parts of the name of a blend: ``ms_bricks_005__concrete_021``."""

RELIEF = (0.0024, 0.112)
"""Height of the relief of real materials as a share of their side, least and most."""

AO_RADIUS = 1 / 16
"""How far occlusion reaches, as a share of the side; the generated materials take the same."""

_NUMBER = re.compile(r"\d+|\d{2,}[a-z]")


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
        self._listing: list[HubRow] | None = None

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
            DataError: There is no file, or one is not of MatSynth's schema.
            ConfigError: A licence that no row has.
        """
        offered = [row for row in self._rows() if self._reason(row) is None]
        originals: dict[str, list[str]] = defaultdict(list)
        for row in offered:
            if BLENDED_WITH not in row.name:
                without_origin = row.name.lower().partition("_")[2]
                originals[_plain(without_origin)].append(family_of(row.name))
        return [_entry(row, originals) for row in offered]

    def left_out(self) -> list[Finding]:
        """A note on every row that is not offered; raises as ``entries`` does."""
        reasons = [(row, self._reason(row)) for row in self._rows()]
        return [Finding(row.name, "", why, "note", why) for row, why in reasons if why is not None]

    def load(self, entry: Entry) -> Material:
        """Reads one row; raises DataError with what is wrong with it."""
        return loaded(*self.survey(entry))

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Reads the images of one row, one at a time, or None, and tells what the normals showed.

        Raises:
            DataError: An image is missing or broken, or the images differ in size; names file, row and map.
        """
        row = read_row(entry.place, name=entry.id)
        label = self._label(row.category)
        read, findings = _maps(row, size=self.size)
        if any(finding.severity == "error" for finding in findings):
            return None, findings
        maps, height_range = pictures.with_full_height(read)
        maps[AO.name] = occlusion(maps["height"], normal=maps["normal"])
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

    def _rows(self) -> list[HubRow]:
        if self._listing is None:
            columns = COLUMNS.values()
            rows = [row for file in find_files(self.path) for row in list_rows(file, columns=columns)]
            _check_licences(self.licences, rows, path=self.path)
            self._listing = rows
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


def family_of(name: str) -> str:
    """The part of a name that variants of one original share.

    ``acg_planks_023_a``, ``acg_planks_024``: ``acg_planks``; ``0557_brick_uneven_stones``:
    ``brick_uneven_stones``. Everything from the first number on goes, a number in front as well: variants
    are told apart by numbers, and their sizes and letters follow them. Blends are ``ms_<parent>__<parent>``,
    with their parents' names without the letters of where they come from: the first parent's is theirs, as
    far as the name alone can say.
    """
    first = name.lower().removeprefix(BLEND).partition(BLENDED_WITH)[0]
    words = first.split("_")
    while len(words) > 1 and words[0].isdigit():
        words = words[1:]
    count = next((i for i, word in enumerate(words) if _NUMBER.fullmatch(word)), len(words))
    return "_".join(words[:count]) or first


def licence_kind(licence: str) -> str:
    """A licence without its version: ``CC0 1.0`` is ``CC0``, ``cc-by-4.0`` and ``CC BY`` are ``CC-BY``."""
    words = re.split(r"[\s_-]+", licence.strip().upper())
    return "-".join(word for word in words if not re.fullmatch(r"V?\d+(\.\d+)*", word)) or "UNKNOWN"


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


def _check_licences(wanted: Iterable[str], rows: Iterable[HubRow], *, path: str) -> None:
    found = {licence_kind(row.licence) for row in rows}
    for licence in wanted:
        if licence_kind(licence) in found:
            continue
        near = get_close_matches(licence_kind(licence), found, n=1)
        way_out = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(found))}."
        raise ConfigError(f"{path}: no row is licensed {licence}. {way_out}")


def _maps(row: HubRow, *, size: int) -> tuple[dict[str, Stored], tuple[Finding, ...]]:
    maps: dict[str, Stored] = {}
    findings: tuple[Finding, ...] = ()
    sizes: dict[str, tuple[int, int]] = {}
    for name, column in COLUMNS.items():
        place = f"{row.place}: {row.name}: {column}"
        pixels = pictures.decode_pixels(read_image(row, column), place=place)
        sizes[column] = (pixels.shape[0], pixels.shape[1])
        try:
            maps[name] = pictures.to_stored(pixels, MAPS[name], size=size)
            if name == NORMAL.name:
                findings = tuple(vector_findings(pixels, material=row.name, file=place))
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{column} {width}x{height}" for column, (height, width) in sizes.items())
        raise DataError(f"{row.place}: {row.name}: images of different size: {listing}. Leave the row out.")
    return maps, findings


def _entry(row: HubRow, originals: Mapping[str, Sequence[str]]) -> Entry:
    """An entry; ``originals`` are the families of what is no blend, by name without origin."""
    _, blended, _ = row.name.partition(BLENDED_WITH)
    if not blended:
        return Entry(row.name, family_of(row.name), place=row.place)
    parents = row.name.lower().removeprefix(BLEND).split(BLENDED_WITH)
    known = [family for parent in parents for family in originals.get(_plain(parent), ())]
    families = list(dict.fromkeys(known or [family_of(row.name)]))
    return Entry(row.name, families[0], relatives=tuple(families[1:]), place=row.place)


def _plain(name: str) -> str:
    """A name whose numbers have no leading zeros: parents of blends are written either way."""
    return "_".join(str(int(word)) if word.isdigit() else word for word in name.split("_"))

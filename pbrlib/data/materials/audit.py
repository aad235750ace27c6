"""Preflight of materials: what is wrong, doubtful or worth knowing, before a GPU learns from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from pbrlib.data.materials.diffuse import is_metal, sameness, spans
from pbrlib.data.materials.material import Entry, Material, Source
from pbrlib.data.materials.pictures import CONSTANT_SPAN, seam_over_quantile
from pbrlib.errors import DataError, printable
from pbrlib.maps import DIFFUSE, MAPS, SEAM_MAPS, Stored

if TYPE_CHECKING:
    from rich.table import Table

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

REPORT_VERSION = 1

BLACK = 4 / 255
"""A diffuse whose brightest value is no more than this is black."""

SEAM = 2.0
"""A step across the border this many times the largest inside contradicts that a material tiles: scanned
sets that do reach 1.1, generated ones with joints along the border 1.7, most cut ones exceed 2."""

_USELESS = ("black", "plain", "duplicate")


@dataclass(frozen=True)
class Finding:
    """One remark on one material.

    ``map`` is empty for the material as a whole, ``check`` is a stable name to filter by. An error
    excludes the material, a warning does not, a note is only worth knowing.
    """

    material: str
    map: str
    check: str
    severity: Severity
    message: str


@runtime_checkable
class Surveyor(Protocol):
    """A source that can say more of a material than the stored maps still show."""

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """The material, or None if it cannot be read, and what the reading showed."""
        ...


def loaded(material: Material | None, findings: Iterable[Finding]) -> Material:
    """The material of a survey; raises DataError with everything that is wrong with it."""
    if material is None:
        raise DataError("\n".join(f.message for f in findings if f.severity == "error"))
    return material


@runtime_checkable
class Chooser(Protocol):
    """A source that does not offer all that it holds."""

    def left_out(self) -> list[Finding]:
        """A note on what ``entries`` leaves out, an error where that is broken; raises as it does."""
        ...


@dataclass(frozen=True)
class AuditReport:
    """The findings over all materials that were read; ``num_materials`` counts those, excluded or not."""

    num_materials: int
    findings: tuple[Finding, ...]

    @property
    def excluded(self) -> tuple[str, ...]:
        """The ids with an error, sorted."""
        return tuple(sorted({f.material for f in self.findings if f.severity == "error"}))

    def count(self, severity: Severity) -> int:
        """The number of findings of a severity."""
        return sum(f.severity == severity for f in self.findings)

    def to_json(self) -> str:
        """The machine-readable report, one object."""
        content = {
            "format_version": REPORT_VERSION,
            "materials": self.num_materials,
            "excluded": self.excluded,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(content, indent=2) + "\n"

    def table(self, *, most: int = 60) -> Table:
        """Errors, then warnings, at most ``most`` of them; notes counted by kind, with one example each."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Audit", title_justify="left")
        for heading in ("severity", "material", "map", "message"):
            table.add_column(heading, overflow="fold")
        grave = [f for severity in ("error", "warning") for f in self.findings if f.severity == severity]
        for finding in grave[:most]:
            cells = (finding.severity, finding.material, finding.map, finding.message)
            table.add_row(
                *map(escape, map(printable, cells)), style="red" if finding.severity == "error" else "yellow"
            )
        if len(grave) > most:
            table.add_row("...", f"{len(grave) - most} more", "", "see the report")
        notes = Counter((f.map, f.check) for f in self.findings if f.severity == "note")
        for (name, check), count in notes.most_common():
            first = next(f for f in self.findings if (f.map, f.check, f.severity) == (name, check, "note"))
            more = f" and {count - 1} more" if count > 1 else ""
            shown = [escape(printable(text)) for text in (first.material, first.message)]
            table.add_row("note", shown[0] + more, name, shown[1], style="dim")
        return table


def read_audited(source: Source, entry: Entry) -> tuple[Material | None, list[Finding]]:
    """Reads one material and audits it.

    Returns:
        The material, or None if an error excludes it, and its findings. A diffuse that is black, one
        colour or the albedo again is left out of the maps: such a pair would teach that an old texture is
        its albedo. The material is usable without, its diffuse baked like that of a modern one.
    """
    try:
        material, seen = source.survey(entry) if isinstance(source, Surveyor) else (source.load(entry), ())
    except DataError as error:
        return None, [Finding(entry.id, "", "unreadable", "error", str(error))]
    findings = list(seen)
    if material is None:
        return None, findings
    findings += audit(material)
    if any(finding.severity == "error" for finding in findings):
        return None, findings
    useless = {f.map for f in findings if f.check in _USELESS}
    kept = {name: stored for name, stored in material.maps.items() if name not in useless}
    return replace(material, maps=kept), findings


def audit(material: Material) -> list[Finding]:
    """The findings on the stored maps of a material."""
    return [
        *_layout(material),
        *_constants(material),
        *_diffuse(material),
        *_orientation(material),
        *_seams(material),
        *_unknowns(material),
    ]


def _layout(material: Material) -> Iterable[Finding]:
    height, width = material.size
    for name, stored in material.maps.items():
        kind = MAPS[name]
        if stored.shape != (height, width, kind.channels) or stored.dtype != np.dtype(kind.dtype):
            found = f"{'x'.join(map(str, stored.shape))} {stored.dtype}"
            wanted = f"{height}x{width}x{kind.channels} {kind.dtype}"
            yield Finding(material.id, name, "size", "error", f"{found} instead of {wanted}")


def _constants(material: Material) -> Iterable[Finding]:
    for name, stored in material.maps.items():
        if not MAPS[name].may_be_constant and name != DIFFUSE.name and spans(stored, name) <= CONSTANT_SPAN:
            yield _constant(material, name)


def _constant(material: Material, name: str) -> Finding:
    high = material.maps[name].max(axis=(0, 1)).astype(int)
    values = ", ".join(f"{value / MAPS[name].maximum:.2f}" for value in high)
    return Finding(material.id, name, "constant", "warning", f"the same everywhere ({values})")


def _diffuse(material: Material) -> Iterable[Finding]:
    diffuse, albedo = material.maps.get("diffuse"), material.maps.get("albedo")
    if diffuse is None:
        return
    black = diffuse.max() <= BLACK * MAPS["diffuse"].maximum
    if albedo is None:
        if black:
            yield Finding(material.id, "diffuse", "black", "error", "black, and there is no albedo")
        elif spans(diffuse, "diffuse") <= CONSTANT_SPAN:
            yield _constant(material, "diffuse")
    elif black or spans(diffuse, "diffuse") <= CONSTANT_SPAN:
        yield _empty(material, "black" if black else "plain", albedo)
    elif len({albedo.shape, diffuse.shape, material.maps["normal"].shape}) == 1 and (
        said := sameness(diffuse, albedo, normal=material.maps["normal"])
    ):
        yield Finding(material.id, "diffuse", "duplicate", "warning", f"{said}; left out")


def _empty(material: Material, check: str, albedo: Stored) -> Finding:
    """What a diffuse of one colour means beside an albedo: bare metals have none, others lost theirs."""
    if check == "plain" and spans(albedo, "albedo") <= CONSTANT_SPAN:
        return _constant(material, "diffuse")
    said = "black" if check == "black" else "one colour, though the albedo has many"
    if is_metal(material):
        message = f"{said}: a bare metal has no diffuse, its colour is the albedo's; left out"
        return Finding(material.id, "diffuse", check, "note", message)
    message = f"{said}, and it is no metal: a mistake of a conversion, save it again; left out"
    return Finding(material.id, "diffuse", check, "warning", message)


def _orientation(material: Material) -> Iterable[Finding]:
    import torch

    from pbrlib.geometry import green_channel_verdict

    raw = torch.from_numpy(np.ascontiguousarray(material.maps["normal"])).permute(2, 0, 1)[None]
    if min(raw.shape[-2:]) < 8:
        return
    verdict = green_channel_verdict(MAPS["normal"].decode(raw), tileable=material.tileable)
    if verdict == "directx":
        message = (
            "green looks flipped, as if read in the wrong convention; a folder names its own in "
            'manifest.json ("normal_convention": "directx")'
        )
        yield Finding(material.id, "normal", "green", "warning", message)
    elif verdict == "undecided":
        yield Finding(material.id, "normal", "green", "note", "the sign of green cannot be told from the map")


def _seams(material: Material) -> Iterable[Finding]:
    if not material.tileable:
        return
    for name in SEAM_MAPS:
        stored = material.maps.get(name)
        if stored is not None and (ratio := seam_over_quantile(stored, quantile=1.0)) > SEAM:
            message = (
                f"is said to tile, but the step across its border is {ratio:.1f} times the largest inside"
            )
            yield Finding(material.id, name, "seam", "warning", message)


def _unknowns(material: Material) -> Iterable[Finding]:
    if material.label == "metal" and "metallic" not in material.maps:
        message = "a metal without a metallic map: unknown, left out of its training and score"
        yield Finding(material.id, "metallic", "unknown", "note", message)

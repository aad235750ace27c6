"""Audits materials before training: errors, warnings and notes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from pbrlib.data.materials.diffuse import albedo_match, is_metal, value_span
from pbrlib.data.materials.material import Entry, Material, Source
from pbrlib.data.materials.pictures import CONSTANT_SPAN, seam_ratio
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
"""A seam ratio (against the largest inner step) above this contradicts that a material is tileable.

Measured: tileable scanned sets reach 1.1, generated ones with joints along the border 1.7; most cut pictures
exceed 2.
"""

_DROP_CHECKS = ("black", "plain", "duplicate")


@dataclass(frozen=True)
class Finding:
    """A remark on a material.

    ``map`` is empty if the finding is on the material as a whole; ``check`` is a stable name to filter by. An
    error excludes the material; a warning and a note do not.
    """

    material: str
    map: str
    check: str
    severity: Severity
    message: str


@runtime_checkable
class Surveyor(Protocol):
    """A source that returns findings of the reading, which stored maps do not show any more."""

    def survey(self, entry: Entry) -> tuple[Material | None, tuple[Finding, ...]]:
        """Read a material, or None if it has errors, and return it with all findings."""
        ...


def require_material(material: Material | None, findings: Iterable[Finding]) -> Material:
    """Return the material of a survey; raises DataError with all errors if there is none."""
    if material is None:
        raise DataError("\n".join(f.message for f in findings if f.severity == "error"))
    return material


@runtime_checkable
class Chooser(Protocol):
    """A source that does not list everything that it has."""

    def left_out(self) -> list[Finding]:
        """Return findings on everything that ``entries`` leaves out; raises the errors of ``entries``."""
        ...


@dataclass(frozen=True)
class AuditReport:
    """The findings on all materials that were read; ``num_materials`` includes excluded materials."""

    num_materials: int
    findings: tuple[Finding, ...]

    @property
    def excluded(self) -> tuple[str, ...]:
        """The sorted ids of materials with an error."""
        return tuple(sorted({f.material for f in self.findings if f.severity == "error"}))

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(f.severity == severity for f in self.findings)

    def to_json(self) -> str:
        """Return the report as a JSON object."""
        content = {
            "format_version": REPORT_VERSION,
            "materials": self.num_materials,
            "excluded": self.excluded,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(content, indent=2) + "\n"

    def table(self, *, max_findings: int = 60) -> Table:
        """Tabulate up to ``max_findings`` errors and warnings, with an example of each kind of note."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Audit", title_justify="left")
        for heading in ("severity", "material", "map", "message"):
            table.add_column(heading, overflow="fold")
        serious = [f for severity in ("error", "warning") for f in self.findings if f.severity == severity]
        for finding in serious[:max_findings]:
            cells = (finding.severity, finding.material, finding.map, finding.message)
            table.add_row(
                *map(escape, map(printable, cells)), style="red" if finding.severity == "error" else "yellow"
            )
        if len(serious) > max_findings:
            table.add_row("...", f"{len(serious) - max_findings} more", "", "see the report")
        notes = Counter((f.map, f.check) for f in self.findings if f.severity == "note")
        for (name, check), count in notes.most_common():
            first = next(f for f in self.findings if (f.map, f.check, f.severity) == (name, check, "note"))
            more = f" and {count - 1} more" if count > 1 else ""
            shown = [escape(printable(text)) for text in (first.material, first.message)]
            table.add_row("note", shown[0] + more, name, shown[1], style="dim")
        return table


def read_audited(source: Source, entry: Entry) -> tuple[Material | None, list[Finding]]:
    """Read a material and audit it.

    Returns:
        The material, or None if an error excludes it, and its findings. A diffuse that is black, of one
        colour or a copy of the albedo is dropped, since networks would learn from it that an old texture
        equals its albedo. The diffuse of such a material is baked, as for modern ones.
    """
    try:
        material, found = source.survey(entry) if isinstance(source, Surveyor) else (source.load(entry), ())
    except DataError as error:
        return None, [Finding(entry.id, "", "unreadable", "error", str(error))]
    findings = list(found)
    if material is None:
        return None, findings
    findings += audit(material)
    if any(finding.severity == "error" for finding in findings):
        return None, findings
    dropped = {f.map for f in findings if f.check in _DROP_CHECKS}
    kept = {name: stored for name, stored in material.maps.items() if name not in dropped}
    return replace(material, maps=kept), findings


def audit(material: Material) -> list[Finding]:
    """Return the findings on the stored maps of a material."""
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
            yield Finding(material.id, name, "size", "error", f"got {found}; expected {wanted}")


def _constants(material: Material) -> Iterable[Finding]:
    for name, stored in material.maps.items():
        if (
            not MAPS[name].may_be_constant
            and name != DIFFUSE.name
            and value_span(stored, name) <= CONSTANT_SPAN
        ):
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
        elif value_span(diffuse, "diffuse") <= CONSTANT_SPAN:
            yield _constant(material, "diffuse")
    elif black or value_span(diffuse, "diffuse") <= CONSTANT_SPAN:
        yield _empty(material, "black" if black else "plain", albedo)
    elif len({albedo.shape, diffuse.shape, material.maps["normal"].shape}) == 1 and (
        match := albedo_match(diffuse, albedo, normal=material.maps["normal"])
    ):
        yield Finding(material.id, "diffuse", "duplicate", "warning", f"{match}; left out")


def _empty(material: Material, check: str, albedo: Stored) -> Finding:
    """Return the finding on a diffuse of one colour: bare metals have no diffuse, other materials lost it."""
    if check == "plain" and value_span(albedo, "albedo") <= CONSTANT_SPAN:
        return _constant(material, "diffuse")
    found = "black" if check == "black" else "one colour, but the albedo has many"
    if is_metal(material):
        message = f"{found}: a bare metal has no diffuse, only the colour of its albedo; left out"
        return Finding(material.id, "diffuse", check, "note", message)
    message = f"{found}, and the material is no metal: a conversion failed. Save it again; left out"
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
            "green looks inverted, as if read in the wrong convention; for a folder, set it in "
            'manifest.json ("normal_convention": "directx")'
        )
        yield Finding(material.id, "normal", "green", "warning", message)
    elif verdict == "undecided":
        yield Finding(material.id, "normal", "green", "note", "the sign of green cannot be detected")


def _seams(material: Material) -> Iterable[Finding]:
    if not material.tileable:
        return
    for name in SEAM_MAPS:
        stored = material.maps.get(name)
        if stored is not None and (ratio := seam_ratio(stored, quantile=1.0)) > SEAM:
            message = (
                f"listed as tileable, but the step across its border is {ratio:.1f} times the largest inside"
            )
            yield Finding(material.id, name, "seam", "warning", message)


def _unknowns(material: Material) -> Iterable[Finding]:
    if material.label == "metal" and "metallic" not in material.maps:
        message = "a metal without a metallic map: unknown, not used to train or score it"
        yield Finding(material.id, "metallic", "unknown", "note", message)

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pbrlib.data.materials.audit import AuditReport, Finding, audit, read_audited
from pbrlib.data.materials.material import Material
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from tests.data.sources.folders import bumps, colours, write_manifest, write_material


def read(root: Path, name: str = "planks") -> tuple[Material | None, dict[tuple[str, str], str]]:
    """Return the audited material, and the severity of each finding by map and check."""
    source = FolderSource(str(root))
    entry = next(entry for entry in source.entries() if entry.id == name)
    material, findings = read_audited(source, entry)
    return material, {(f.map, f.check): f.severity for f in findings}


def test_a_clean_material_has_no_findings(tmp_path: Path) -> None:
    write_material(tmp_path, "planks")
    material, findings = read(tmp_path)
    assert material is not None
    assert findings == {}


def test_generated_materials_are_clean() -> None:
    source = GeneratedSource(count=7, size=128, seed=5)
    for entry in source.entries():
        material, findings = read_audited(source, entry)
        assert material is not None, entry.id
        assert not [
            f for f in findings if f.severity == "error" or (f.check == "green" and f.severity != "note")
        ]


def test_an_inverted_green_channel_is_a_warning_that_the_manifest_resolves(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", normal=bumps(convention="directx"))
    assert read(tmp_path)[1] == {("normal", "green"): "warning"}
    write_manifest(tmp_path, {"id": "planks", "normal_convention": "directx"})
    assert read(tmp_path)[1] == {}


def test_a_flat_normal_map_is_constant_and_undecided(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", normal=np.full((32, 32, 3), (128, 128, 255), np.uint8))
    material, findings = read(tmp_path)
    assert material is not None
    assert findings == {("normal", "constant"): "warning", ("normal", "green"): "note"}


@pytest.mark.parametrize(("share", "severity"), [(0.2, "note"), (0.8, "warning")])
def test_vectors_of_wrong_length_are_counted(tmp_path: Path, share: float, severity: str) -> None:
    normal = bumps()
    short = np.random.default_rng(0).random((32, 32)) < share
    normal[short] = np.rint((normal[short].astype(float) - 127.5) * 0.7 + 127.5)
    write_material(tmp_path, "planks", normal=normal)
    assert read(tmp_path)[1][("normal", "length")] == severity


@pytest.mark.parametrize(("name", "found"), [("height", True), ("ao", True), ("metallic", False)])
def test_constant_maps_are_warnings_except_metallic(tmp_path: Path, name: str, found: bool) -> None:
    grey = np.full((32, 32), 100, np.uint8)
    grey[0, 0] = 101  # as JPEG leaves it
    write_material(tmp_path, "planks", **{name: grey})
    material, findings = read(tmp_path)
    assert material is not None
    assert ((name, "constant") in findings) is found


def lit(albedo: np.ndarray) -> np.ndarray:
    """Return an old diffuse: the albedo under light from the left on the surface of ``bumps``."""
    facing = bumps()[..., :1].astype(float) / 127.5 - 1
    return np.rint(albedo * (0.8 - 0.5 * facing)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("diffuse", "message"),
    [
        (colours(0), "is identical to the albedo; left out"),
        (colours(0) + np.uint8(1), "equals the albedo (mean difference 1.0 of 255); left out"),
        ((colours(0) * 0.8).astype(np.uint8), "is the albedo times 0.80, 0.80, 0.80; left out"),
    ],
)
def test_a_diffuse_that_equals_the_albedo_is_dropped(
    tmp_path: Path, diffuse: np.ndarray, message: str
) -> None:
    write_material(tmp_path, "planks", diffuse=diffuse)
    source = FolderSource(str(tmp_path))
    material, findings = read_audited(source, source.entries()[0])
    assert material is not None
    assert "diffuse" not in material.maps
    assert "albedo" in material.maps
    assert [(f.map, f.check, f.severity, f.message) for f in findings] == [
        ("diffuse", "duplicate", "warning", message)
    ]


def test_a_diffuse_with_painted_light_is_kept(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", diffuse=lit(colours(0)))
    material, findings = read(tmp_path)
    assert material is not None
    assert "diffuse" in material.maps
    assert findings == {}


@pytest.mark.parametrize(("value", "check"), [(0, "black"), (90, "plain")])
@pytest.mark.parametrize(("metallic", "severity"), [(255, "note"), (0, "warning")])
def test_a_plain_diffuse_is_a_note_for_bare_metal_and_a_warning_otherwise(
    tmp_path: Path, value: int, check: str, metallic: int, severity: str
) -> None:
    plain, metal = np.full((32, 32, 3), value, np.uint8), np.full((32, 32), metallic, np.uint8)
    write_material(tmp_path, "planks", diffuse=plain, metallic=metal)
    material, findings = read(tmp_path)
    assert material is not None
    assert "diffuse" not in material.maps
    assert findings == {("diffuse", check): severity}


def test_a_plain_diffuse_of_a_plain_albedo_is_kept(tmp_path: Path) -> None:
    plain = np.full((32, 32, 3), 90, np.uint8)
    write_material(tmp_path, "planks", diffuse=plain, albedo=plain + np.uint8(30))
    material, findings = read(tmp_path)
    assert material is not None
    assert "diffuse" in material.maps
    assert findings == {("diffuse", "constant"): "warning", ("albedo", "constant"): "warning"}


@pytest.mark.parametrize(("value", "found"), [(0, ("black", "error")), (90, ("constant", "warning"))])
def test_without_an_albedo_a_black_diffuse_is_an_error_and_a_plain_one_is_not(
    tmp_path: Path, value: int, found: tuple[str, str]
) -> None:
    folder = write_material(tmp_path, "slats", diffuse=np.full((32, 32, 3), value, np.uint8))
    (folder / "albedo.png").unlink()
    material, findings = read(tmp_path, "slats")
    assert findings == {("diffuse", found[0]): found[1]}
    assert (material is None) is (found[1] == "error")


def test_a_seam_of_a_tileable_material_is_a_warning(tmp_path: Path) -> None:
    ramp = np.repeat(np.tile(np.linspace(0, 250, 32).astype(np.uint8), (32, 1))[..., None], 3, axis=-1)
    write_material(tmp_path, "planks", albedo=ramp)
    write_manifest(tmp_path, {"id": "planks", "tileable": True})
    assert read(tmp_path)[1] == {("albedo", "seam"): "warning"}


def test_an_unknown_metallic_of_a_metal_is_noted(tmp_path: Path) -> None:
    write_material(tmp_path, "planks")
    write_manifest(tmp_path, {"id": "planks", "class": "metal"})
    assert read(tmp_path)[1] == {("metallic", "unknown"): "note"}


def test_an_undecodable_map_excludes_the_material(tmp_path: Path) -> None:
    (write_material(tmp_path, "planks") / "albedo.png").write_bytes(b"nothing")
    assert read(tmp_path) == (None, {("albedo", "undecodable"): "error"})


def test_maps_of_a_wrong_shape_are_an_error() -> None:
    source = GeneratedSource(count=1, size=32, seed=0)
    material = source.load(source.entries()[0])
    wrong = replace(material, maps={**material.maps, "ao": material.maps["ao"][:16]})
    assert [(f.map, f.check, f.severity) for f in audit(wrong) if f.severity == "error"] == [
        ("ao", "size", "error")
    ]


def test_the_report_lists_excluded_materials() -> None:
    findings = (
        Finding("b", "ao", "constant", "warning", "the same everywhere"),
        Finding("a", "", "unreadable", "error", "a[0].png: broken"),
        *(Finding(f"n{i}", "normal", "green", "note", "cannot be told") for i in range(9)),
    )
    report = AuditReport(num_materials=12, findings=findings)
    content = json.loads(report.to_json())
    assert content["excluded"] == ["a"]
    assert content["counts"] == {"error": 1, "warning": 1, "note": 9}
    assert content["findings"][0]["message"] == "the same everywhere"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.table())
    shown = console.export_text()
    assert shown.index("a[0].png: broken") < shown.index("the same everywhere") < shown.index("n0 and 8 more")

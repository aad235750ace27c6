"""Tests of folders of publishers: which pictures are read as which map, and findings on the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.material import Material
from pbrlib.data.sources.folder import FolderSource
from pbrlib.errors import DataError
from pbrlib.maps import MAPS
from tests.data.sources.folders import bumps, colours, write, write_manifest, write_material


def survey(root: Path, name: str) -> tuple[Material, list[Finding]]:
    source = FolderSource(str(root))
    material, findings = source.survey(next(one for one in source.entries() if one.id == name))
    assert material is not None, findings
    return material, list(findings)


def ids(root: Path) -> list[str]:
    return [entry.id for entry in FolderSource(str(root)).entries()]


def grey(seed: int) -> np.ndarray:
    return colours(seed)[..., 0]


def test_a_set_of_ambient_cg_is_read_with_its_opengl_normal(tmp_path: Path) -> None:
    stem = tmp_path / "Bark014" / "Bark014_2K-JPG"
    for name, pixels in {
        "Color": colours(0),
        "NormalGL": bumps(),
        "NormalDX": bumps(convention="directx"),
        "Roughness": grey(1),
        "AmbientOcclusion": grey(2),
        "Displacement": grey(3),
    }.items():
        write(stem.with_name(f"{stem.name}_{name}.png"), pixels)
    write(tmp_path / "Bark014" / "Bark014.png", colours(9))
    material, findings = survey(tmp_path, "Bark014")
    assert set(material.maps) == {"albedo", "normal", "roughness", "ao", "height", "mask"}
    assert np.abs(material.maps["normal"].astype(int) - bumps()).max() <= 1
    unused = {f.check: f.message for f in findings if "not read" in f.message}
    assert "Bark014_2K-JPG_NormalGL.png is read as normal" in unused["instead"]
    assert "its name has none of the maps" in unused["name"]


def test_a_set_of_poly_haven_is_read_from_its_folder_of_textures_and_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "rock_058" / "textures"
    write(folder / "rock_058_diff_2k.png", colours(0))
    write(folder / "rock_058_nor_gl_2k.png", bumps())
    arm = np.dstack((grey(1), grey(2), grey(3)))
    write(folder / "rock_058_arm_2k.png", arm)
    material, _ = survey(tmp_path, "rock_058")
    for channel, name in enumerate(("ao", "roughness", "metallic")):
        assert (material.maps[name][..., 0] == arm[..., channel]).all(), name


def test_a_single_map_is_preferred_to_a_packed_one(tmp_path: Path) -> None:
    folder = write_material(tmp_path, "wall", roughness=grey(5))
    write(folder / "orm.png", np.dstack((grey(1), grey(2), grey(3))))
    material, _ = survey(tmp_path, "wall")
    assert (material.maps["roughness"][..., 0] == grey(5)).all()
    assert (material.maps["metallic"][..., 0] == grey(3)).all()


def test_gloss_becomes_roughness_and_directx_becomes_opengl(tmp_path: Path) -> None:
    write(tmp_path / "wall" / "albedo.png", colours(0))
    write(tmp_path / "wall" / "wall_NormalDX.png", bumps(convention="directx"))
    write(tmp_path / "wall" / "Glossiness.png", grey(1))
    material, findings = survey(tmp_path, "wall")
    assert (material.maps["roughness"][..., 0] == 255 - grey(1)).all()
    assert np.abs(material.maps["normal"].astype(int) - bumps()).max() <= 1
    assert "opposite" in [finding.check for finding in findings]


def test_a_manifest_that_contradicts_a_name_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "wall" / "albedo.png", colours(0))
    write(tmp_path / "wall" / "normal_gl.png", bumps())
    write_manifest(tmp_path, {"id": "wall", "normal_convention": "directx"})
    material, findings = survey(tmp_path, "wall")
    assert np.abs(material.maps["normal"].astype(int) - bumps()).max() <= 1
    assert [f.severity for f in findings if f.check == "convention"] == ["warning"]


def test_pictures_of_several_materials_in_one_folder_are_separated(tmp_path: Path) -> None:
    for number, name in enumerate(("oak", "ash")):
        write(tmp_path / f"{name}_albedo.png", colours(number))
        write(tmp_path / f"{name}_normal.png", bumps())
    assert ids(tmp_path) == ["ash", "oak"]
    assert (survey(tmp_path, "ash")[0].maps["albedo"] == colours(1)).all()


def test_a_single_material_in_the_root_has_its_name(tmp_path: Path) -> None:
    assert ids(write_material(tmp_path, "planks")) == ["planks"]


def test_pictures_above_the_materials_are_reported(tmp_path: Path) -> None:
    write_material(tmp_path, "oak")
    write(tmp_path / "overview_color.png", colours(0))
    assert ids(tmp_path) == ["oak"]
    assert [f.material for f in FolderSource(str(tmp_path)).left_out()] == ["overview_color.png"]


def test_any_parent_folder_gives_the_class_in_any_case(tmp_path: Path) -> None:
    write_material(tmp_path / "Metal" / "pack", "sheet")
    assert survey(tmp_path, "sheet")[0].label == "metal"


@pytest.mark.parametrize("suffix", [".exr", ".psd", ".EXR", ".hdr"])
def test_a_map_in_a_format_that_is_not_read_is_a_warning(tmp_path: Path, suffix: str) -> None:
    folder = write_material(tmp_path, "wall")
    (folder / f"Height{suffix}").write_bytes(b"?")
    (folder / f"Roughness{suffix}").write_bytes(b"?")
    _, findings = survey(tmp_path, "wall")
    found = {f.severity: f.message for f in findings if f.check == "format"}
    assert "The material has no height" in found["warning"]
    assert "as PNG" in found["warning"]
    assert "Roughness" in found["note"], "the material has a roughness"


@pytest.mark.parametrize(
    ("suffix", "said"), [(".zip", "Unpack it"), (".bsa", "BSA Browser"), (".7z", "Unpack it")]
)
def test_archives_are_reported_with_a_remedy(tmp_path: Path, suffix: str, said: str) -> None:
    (tmp_path / f"pack{suffix}").write_bytes(b"?")
    with pytest.raises(DataError, match=said):
        ids(tmp_path)
    write_material(tmp_path, "oak")
    (note,) = FolderSource(str(tmp_path)).left_out()
    assert said in note.message


def test_links_to_folders_are_followed_once_and_near_the_root(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_material(tmp_path / "elsewhere", "oak")
    write_material(root / "a" / "b", "ash")
    (root / "oak").symlink_to(tmp_path / "elsewhere" / "oak")
    (root / "loop").symlink_to(root)
    (root / "a" / "b" / "deep").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "b" / "ash" / "ao.png").symlink_to(root / "nowhere.png")
    assert ids(root) == ["ash", "oak"]
    said = {f.material: f.message for f in FolderSource(str(root)).left_out()}
    assert "searched already" in said["loop"]
    assert "not followed here" in said["a/b/deep"]
    assert "a broken link" in " ".join(f.message for f in survey(root, "ash")[1])


def test_a_folder_whose_pictures_are_all_unknown_is_a_warning(tmp_path: Path) -> None:
    write_material(tmp_path, "oak")
    write(tmp_path / "ash" / "a1.png", colours(0))
    write(tmp_path / "ash" / "a2.png", colours(1))
    found = [f for f in FolderSource(str(tmp_path)).left_out() if f.severity == "warning"]
    assert [f.material for f in found] == ["ash"]
    assert "no picture is read: a1.png and 1 more" in found[0].message


def test_the_second_material_of_a_repeated_id_is_an_error(tmp_path: Path) -> None:
    for above in ("one", "other"):
        write_material(tmp_path / above, "oak")
    assert ids(tmp_path) == ["oak"]
    assert [(f.material, f.severity) for f in FolderSource(str(tmp_path)).left_out()] == [
        ("oak (again)", "error")
    ]


def test_an_invalid_entry_of_the_manifest_excludes_only_its_material(tmp_path: Path) -> None:
    for name in ("oak", "ash", "elm"):
        write_material(tmp_path, name)
    write_manifest(
        tmp_path,
        {"id": "oak", "normal_convention": "vulkan"},
        {"class": "wood"},
        {"id": "ash", "class": "wod", "maps": {"opacity": {"file": "ash/opacity.png"}}},
        {"id": "elm", "maps": {"ao": {"file": "../secret.png"}}},
    )
    assert ids(tmp_path) == ["ash"]
    said = {(f.material, f.check): f.message for f in FolderSource(str(tmp_path)).left_out()}
    assert "'opengl' or 'directx'" in said["oak", "manifest"]
    assert "id: Field required" in said["entry 1", "manifest"]
    assert "Did you mean wood?" in said["ash", "class"]
    assert "opacity are not read" in said["ash", "manifest maps"]
    assert "expected a file inside the folder" in said["elm", "manifest"]


def test_a_diffuse_with_modern_maps_is_a_warning(tmp_path: Path) -> None:
    folder = write_material(tmp_path, "wall")
    (folder / "albedo.png").rename(folder / "Wall_Diffuse.png")
    _, findings = survey(tmp_path, "wall")
    assert any(f.severity == "warning" and "name it albedo" in f.message for f in findings)


@pytest.mark.parametrize("suffix", ["tif", "tga", "bmp", "webp"])
def test_other_formats_are_read_without_loss(tmp_path: Path, suffix: str) -> None:
    folder = write_material(tmp_path, "wall")
    (folder / "albedo.png").unlink()
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(colours(4)).save(folder / f"albedo.{suffix}", **options)
    assert (survey(tmp_path, "wall")[0].maps["albedo"] == colours(4)).all()


def test_tiff_heights_keep_their_16_bits_and_floats(tmp_path: Path) -> None:
    wide = (np.arange(32 * 32).reshape(32, 32) * 64).astype(np.uint16)
    folder = write_material(tmp_path, "wall")
    for pixels in (wide, wide.astype(np.float32) / 65535):
        Image.fromarray(pixels).save(folder / "height.tif")
        height = survey(tmp_path, "wall")[0].maps["height"][..., 0].astype(float)
        assert np.abs(height - wide / wide.max() * MAPS["height"].maximum).max() <= 1
    Image.fromarray(wide.astype(np.float32)).save(folder / "height.tif")
    with pytest.raises(DataError, match=r"got values outside of 0\.\.1;.* Save it with 16 bits"):
        survey_error(tmp_path)


def survey_error(root: Path) -> None:
    source = FolderSource(str(root))
    source.load(source.entries()[0])


def test_exif_and_gamma_are_applied_to_colours_with_a_note(tmp_path: Path) -> None:
    folder = write_material(tmp_path, "wall")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colours(4)).transpose(Image.Transpose.ROTATE_90).save(folder / "albedo.png", exif=turned)
    material, findings = survey(tmp_path, "wall")
    assert (material.maps["albedo"] == colours(4)).all()
    assert any("EXIF orientation 6" in f.message for f in findings)

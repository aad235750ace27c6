from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbrlib.data.materials.audit import read_audited
from pbrlib.data.materials.material import Entry, Material
from pbrlib.data.sources.matsynth import COLUMNS, MatSynthSource, occlusion
from pbrlib.data.sources.matsynthnames import family_of, licence_kind
from pbrlib.errors import ConfigError, DataError
from pbrlib.geometry import ao_from_height
from pbrlib.maps import MAPS, class_id
from tests.data.sources.folders import bumps, colours
from tests.data.sources.hub_files import IMAGES, mound, png, row, write

LETTERS = st.text("abcdefghijklmnop", min_size=1, max_size=8)


def load(path: Path, name: str, **options) -> Material:
    source = MatSynthSource(str(path), **options)
    return source.load(next(entry for entry in source.entries() if entry.id == name))


@pytest.fixture
def planks(tmp_path: Path) -> Path:
    return write(tmp_path / "train-0.parquet", row("acg_planks_023_a", "wood", seed=3))


def test_maps_come_in_stored_form_with_attribution_and_a_label_for_every_pixel(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train-0.parquet",
        row("acg_planks_023_a", "wood", seed=3, licence="CC-BY", authors=["A", "B"], link="https://here"),
    )
    material = load(path, "acg_planks_023_a")
    wanted = {"albedo", "normal", "roughness", "metallic", "ao", "height", "mask"}
    assert set(material.maps) == wanted
    for name, stored in material.maps.items():
        assert stored.shape == (32, 32, MAPS[name].channels), name
        assert stored.dtype == np.dtype(MAPS[name].dtype), name
    assert (material.maps["albedo"] == colours(3)).all()
    assert (material.maps["roughness"] == colours(4)[..., :1]).all()
    assert np.abs(material.maps["normal"].astype(int) - bumps()).max() <= 1
    assert (material.maps["mask"] == class_id("wood")).all()
    assert (material.source, material.label, material.tileable) == ("matsynth", "wood", True)
    assert (material.licence, material.attribution) == ("CC-BY", "A, B, https://here")


def test_sixteen_bits_of_height_are_kept(planks: Path) -> None:
    assert (load(planks, "acg_planks_023_a").maps["height"][..., 0] == mound()).all()


def test_occlusion_does_not_depend_on_the_range_of_the_height(
    tmp_path: Path,
) -> None:
    shallow = (mound().astype(np.uint32) // 10 + 29000).astype(np.uint16)
    path = write(tmp_path / "a.parquet", row("deep", "wood"), row("shallow", "wood", height=shallow))
    deep, low = load(path, "deep"), load(path, "shallow")
    assert np.abs(low.maps["height"].astype(int) - deep.maps["height"].astype(int)).max() <= 10
    assert np.abs(low.maps["ao"].astype(int) - deep.maps["ao"].astype(int)).max() <= 1
    assert deep.height_range == (0.0, 1.0)
    assert low.height_range == pytest.approx((29000 / 65535, (29000 + 6553) / 65535))


def test_invalid_normals_are_an_error(tmp_path: Path) -> None:
    inward, short = bumps().astype(int), (bumps().astype(int) - 128) // 2 + 128
    inward[..., 2] = 255 - inward[..., 2]
    path = write(
        tmp_path / "a.parquet",
        row("inward", "wood", normal=inward.astype(np.uint8)),
        row("short", "wood", normal=short.astype(np.uint8)),
    )
    source = MatSynthSource(str(path))
    found = {entry.id: read_audited(source, entry) for entry in source.entries()}
    assert found["inward"][0] is None
    assert [f.check for f in found["inward"][1] if f.severity == "error"] == ["inward"]
    assert found["short"][0] is not None
    assert "length" in [f.check for f in found["short"][1]]


def test_the_diffuse_of_the_specular_workflow_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", row("a", "metal", diffuse=b"broken", specular=b"broken"))
    assert "diffuse" not in load(path, "a").maps


def test_large_images_are_reduced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", row("a", "stone", size=64))
    assert load(path, "a", size=16).size == (16, 16)


@pytest.mark.parametrize(
    ("category", "label"),
    [
        *((name, name) for name in ("ceramic", "fabric", "ground", "leather", "metal", "stone", "wood")),
        ("concrete", "stone"),
        ("marble", "stone"),
        *((name, None) for name in ("misc", "plaster", "plastic", "terracotta")),
    ],
)
def test_categories_become_classes_or_are_left_out(tmp_path: Path, category: str, label: str | None) -> None:
    path = write(tmp_path / "a.parquet", row("a", category))
    source = MatSynthSource(str(path))
    assert [entry.id for entry in source.entries()] == ([] if label is None else ["a"])
    assert [(f.material, f.severity) for f in source.left_out()] == ([("a", "note")] if label is None else [])
    if label is not None:
        assert load(path, "a").label == label


def test_kept_marble_has_no_class(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", row("a", "marble"))
    material = load(path, "a", keep_marble=True)
    assert material.label is None
    assert "mask" not in material.maps
    assert "albedo" in material.maps


def test_the_licence_filter_accepts_any_version_of_a_licence(tmp_path: Path) -> None:
    licences = ["CC0", "CC0 1.0", "CC-BY", "CC BY 4.0", "CC-BY-SA 4.0", None]
    rows = [row(f"m{i}", "wood", licence=licence) for i, licence in enumerate(licences)]
    path = write(tmp_path / "a.parquet", *rows)

    def taken(*wanted: str) -> list[str]:
        return [entry.id for entry in MatSynthSource(str(path), licences=wanted).entries()]

    assert taken() == ["m0", "m1", "m2", "m3", "m4", "m5"]
    assert taken("CC0") == ["m0", "m1"]
    assert taken("cc0", "CC-BY-4.0") == ["m0", "m1", "m2", "m3"]
    with pytest.raises(ConfigError, match=r"no row has the licence CC-BI\. Did you mean CC-BY\?"):
        taken("CC-BI")
    assert load(path, "m5").licence == "unknown"


@given(st.text(max_size=12))
def test_the_kind_of_a_licence_has_no_version(text: str) -> None:
    assert licence_kind(licence_kind(text)) == licence_kind(text)


@given(st.lists(LETTERS, min_size=1, max_size=3), st.integers(0, 9999), st.integers(0, 9999), LETTERS)
def test_variants_by_number_and_letter_share_a_family(
    words: list[str], one: int, other: int, variant: str
) -> None:
    base = "_".join(["acg", *words])
    assert family_of(f"{base}_{one:03d}") == family_of(f"{base}_{other:03d}_{variant[0]}") == base
    assert family_of(family_of(f"{base}_{one:03d}")) == base
    assert family_of(f"{one:04d}_{base}") == family_of(f"{other:04d}_{base}") == base


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("acg_diamond_plate_008_d", "acg_diamond_plate"),
        ("cgbc_granite_005_small", "cgbc_granite"),
        ("st_white_ceramic", "st_white_ceramic"),
        ("0557_brick_uneven_stones", "brick_uneven_stones"),
        ("metal_049a", "metal"),
        ("ms_bricks_005__concrete_021", "bricks"),
        ("0557", "0557"),
    ],
)
def test_families_of_names_as_they_are(name: str, family: str) -> None:
    assert family_of(name) == family


def test_a_blend_has_the_family_of_its_first_parent(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        row("acg_bricks_005", "stone"),
        row("th_snow_001", "ground"),
        row("ms_bricks_005__snow_01", "ground"),
        row("ms_bricks_005__bricks_005", "stone"),
        row("ms_grass_001__snow_01", "ground"),
        row("ms_moss_001__plaster_001", "ground"),
        row("acg_plaster_001", "plaster"),
    )
    found = {entry.id: (entry.family, entry.relatives) for entry in MatSynthSource(str(path)).entries()}
    assert found["ms_bricks_005__snow_01"] == ("acg_bricks", ("th_snow",))
    assert found["ms_bricks_005__bricks_005"] == ("acg_bricks", ())
    assert found["ms_grass_001__snow_01"] == ("th_snow", ())
    assert found["ms_moss_001__plaster_001"] == ("moss", ())


def test_listing_reads_no_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", *(row(f"m{i}", "wood") for i in range(3)))
    listed = MatSynthSource(str(path)).entries()
    content = bytearray(path.read_bytes())
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.path_in_schema.partition(".")[0] in IMAGES:
                start = column.dictionary_page_offset or column.data_page_offset
                content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    source = MatSynthSource(str(path))
    assert source.entries() == listed
    with pytest.raises(DataError, match=r"a\.parquet"):
        source.load(listed[0])


def test_every_row_of_all_files_is_read(tmp_path: Path) -> None:
    for part in range(2):
        rows = [row(f"m{part}{i}", "wood", seed=10 * part + i) for i in range(5)]
        write(tmp_path / f"train-{part}.parquet", *rows, group=2)
    source = MatSynthSource(str(tmp_path / "*.parquet"))
    entries = source.entries()
    assert [entry.id for entry in entries] == [f"m{part}{i}" for part in range(2) for i in range(5)]
    sent = pickle.loads(pickle.dumps(source))
    for entry in entries:
        assert (sent.load(entry).maps["albedo"] == colours(int(entry.id[1:]))).all(), entry
    assert MatSynthSource(str(tmp_path)).entries() == entries
    assert MatSynthSource(str(tmp_path / "train-1.parquet")).entries() == entries[5:]


def test_a_pickled_source_has_no_listing(planks: Path) -> None:
    source = MatSynthSource(str(planks))
    before = len(pickle.dumps(source))
    source.entries()
    assert len(pickle.dumps(source)) == before


@pytest.mark.parametrize(
    ("column", "image", "said"),
    [
        *((column, image, "no image") for column in ("basecolor", "normal") for image in (None, b"")),
        *((column, png(mound())[:-40], "does not decode") for column in COLUMNS.values()),
    ],
)
def test_a_missing_or_broken_image_is_an_error_with_its_place(
    tmp_path: Path, column: str, image: bytes | None, said: str
) -> None:
    path = write(
        tmp_path / "a.parquet", row("good", "wood"), row("bad", "wood"), row("x", "wood", **{column: image})
    )
    with pytest.raises(DataError, match=rf"a\.parquet#1/0: x: {column}: {said}"):
        load(path, "x")
    assert load(path, "good").label == "wood"


def test_images_of_different_size_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", row("a", "wood", roughness=np.zeros((16, 16), np.uint8)))
    with pytest.raises(
        DataError, match=r"a\.parquet#0/0: a: got images of different size: .*roughness 16x16"
    ):
        load(path, "a")


def test_an_entry_of_another_file_is_refused(planks: Path) -> None:
    source = MatSynthSource(str(planks))
    (entry,) = source.entries()
    with pytest.raises(DataError, match="no row other here any more"):
        source.load(replace(entry, id="other"))
    with pytest.raises(DataError, match="List the entries again"):
        source.load(Entry(entry.id, entry.family))


@pytest.mark.parametrize("steepness", [1.0, 0.3])
def test_occlusion_of_dents_depends_on_the_slopes_of_the_normals(steepness: float) -> None:
    """The bumps have slopes up to 0.3 radians and a period of 64 px; the height in [0, 1] has no scale."""
    vectors = bumps(64).astype(float) / 127.5 - 1
    vectors[..., :2] *= steepness
    normal = np.rint((vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) * 0.5 + 0.5) * 255)
    height = torch.from_numpy(mound(64).astype(np.float32) / 65535)[None, None]
    rise_px = steepness * 2 * 0.3 * 64 / (2 * np.pi)
    expected = ao_from_height(height, scale_px=rise_px, tileable=True, radius_px=4)[0, 0].numpy()
    found = occlusion(mound(64)[..., None], normal=normal.astype(np.uint8))[..., 0] / 255
    assert np.abs(found - expected).max() < 0.01
    assert found[mound(64) < 20000].mean() < found[mound(64) > 45000].mean()


def test_flat_normals_give_hardly_any_occlusion() -> None:
    flat = np.full((64, 64, 3), (128, 128, 255), np.uint8)
    assert occlusion(mound(64)[..., None], normal=flat).min() > 250


def test_materials_of_the_hub_pass_the_audit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", row("a", "wood", size=64))
    source = MatSynthSource(str(path))
    material, findings = read_audited(source, source.entries()[0])
    assert material is not None
    assert [f.message for f in findings if f.severity != "note"] == []


def test_settings_are_read_from_text() -> None:
    source = MatSynthSource.parse("matsynth:path=/d/*.parquet,licences=CC0+CC-BY,keep_marble=true", size=512)
    assert (source.path, source.licences, source.keep_marble, source.size) == (
        "/d/*.parquet",
        ("CC0", "CC-BY"),
        True,
        512,
    )
    with pytest.raises(
        ConfigError, match=r"got licence; expected a setting of matsynth\. Did you mean licences\?"
    ):
        MatSynthSource.parse("matsynth:path=x,licence=CC0", size=512)
    with pytest.raises(ConfigError, match=r"keep_marble: got 'yes'; expected true or false"):
        MatSynthSource.parse("matsynth:path=x,keep_marble=yes", size=512)
    with pytest.raises(ConfigError, match=r"got no path; expected a source like matsynth:path="):
        MatSynthSource.parse("matsynth:", size=512)

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pbrlib.convert.truepbr import PbrMaps, write_texture
from pbrlib.data.materials.audit import Finding, read_audited
from pbrlib.data.materials.material import Entry, Material
from pbrlib.data.sources.skyrim import SkyrimSource, family
from pbrlib.errors import ConfigError, DataError
from pbrlib.maps import CLASS_COLOURS, IGNORE, MAPS, Stored, class_id
from pbrlib.textures.layouts import Block
from tests.convert.textures import dds, picture
from tests.data.sources.folders import bumps

SIZE = 32


def save(path: Path, pixels: np.ndarray, *, block: Block = Block.BC7) -> Path:
    """Save a DDS or a PNG, according to the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        Image.fromarray(pixels).save(path)
    else:
        path.write_bytes(dds(pixels, block=block))
    return path


def rgba(pixels: np.ndarray, alpha: int | np.ndarray = 255) -> np.ndarray:
    plane = np.broadcast_to(np.asarray(alpha, np.uint8), pixels.shape[:2])
    return np.ascontiguousarray(np.dstack((pixels, plane)))


def old_normal(size: int = SIZE, *, gloss: int | None = 90) -> np.ndarray:
    """Return a DirectX normal map with slightly varying gloss in its alpha."""
    alpha = np.full((size, size), 255 if gloss is None else gloss, np.uint8)
    if gloss is not None:
        alpha[: size // 2] += 20
    return rgba(bumps(size, convention="directx"), alpha)


def save_old(root: Path, name: str, *, size: int = SIZE, alpha: int = 255) -> None:
    save(root / f"{name}.dds", picture(size, size, alpha=alpha))
    save(root / f"{name}_n.dds", old_normal(size))


def save_new(root: Path, name: str, *, size: int = SIZE) -> None:
    save(root / f"{name}.dds", picture(size, size, seed=40))
    save(root / f"{name}_n.dds", rgba(np.full((size, size, 3), 7, np.uint8)))
    packed = np.stack([picture(size, size, seed=shift)[..., 0] for shift in (20, 0, 60)], axis=-1)
    save(root / f"{name}_rmaos.dds", rgba(packed, 255))
    save(root / f"{name}_p.dds", rgba(np.repeat(packed[..., :1], 3, axis=-1)), block=Block.BC4)


def labels(*rows: int, size: int = SIZE) -> np.ndarray:
    """Return a mask of ids in equal stripes."""
    return np.repeat(np.array(rows, np.uint8), size // len(rows))[:, None].repeat(size, axis=1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Create a data folder with one pair, its new set and no mask."""
    save_old(tmp_path / "textures", "stone/wall01", alpha=30)
    save_new(tmp_path / "textures/PBR", "stone/wall01")
    return tmp_path


def read(root: Path, name: str = "stone/wall01", **options) -> tuple[Material | None, tuple[Finding, ...]]:
    source = SkyrimSource(str(root), **options)
    return source.survey(next(entry for entry in source.entries() if entry.id == name))


def load(root: Path, name: str = "stone/wall01", **options) -> Material:
    material, findings = read(root, name, **options)
    assert material is not None, findings
    return material


def apart(one: Stored, other: np.ndarray) -> float:
    """Return the mean difference, of 255; block compression of these small waves gives up to 5."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_an_old_pair_and_its_new_set_are_one_material(tree: Path) -> None:
    material = load(tree)
    assert set(material.maps) == {
        "diffuse", "gloss", "albedo", "normal", "roughness", "metallic", "ao", "height",
    }  # fmt: skip
    for name, stored in material.maps.items():
        assert stored.shape == (SIZE, SIZE, MAPS[name].channels), name
        assert stored.dtype == np.dtype(MAPS[name].dtype), name
    wanted = {
        "diffuse": picture(SIZE, SIZE)[..., :3],
        "albedo": picture(SIZE, SIZE, seed=40)[..., :3],
        "roughness": picture(SIZE, SIZE, seed=20)[..., :1],
        "metallic": picture(SIZE, SIZE)[..., :1],
        "ao": picture(SIZE, SIZE, seed=60)[..., :1],
        "gloss": old_normal()[..., 3:],
    }
    for name, pixels in wanted.items():
        assert apart(material.maps[name], pixels) <= 6, name
    low, high = material.height_range or (0.0, 0.0)
    as_written = material.maps["height"] / 65535 * (high - low) + low
    assert apart(as_written * 255, wanted["roughness"]) <= 6
    assert (material.maps["height"].min(), material.maps["height"].max()) == (0, 65535)
    assert (material.id, material.family, material.source) == ("stone/wall01", "stone/wall", "skyrim")
    assert (material.label, material.licence) == (None, "unknown")


def test_directx_normals_become_opengl_and_the_new_normal_is_not_read(tree: Path) -> None:
    assert apart(load(tree).maps["normal"], bumps()) <= 6


def test_the_alpha_of_a_diffuse_is_dropped(tree: Path) -> None:
    save(tree / "textures/stone/wall01.dds", picture(SIZE, SIZE, alpha=0))
    assert apart(load(tree).maps["diffuse"], picture(SIZE, SIZE)[..., :3]) <= 6


def test_a_two_channel_normal_has_no_gloss_and_gets_blue(tree: Path) -> None:
    save(tree / "textures/stone/wall01_n.dds", old_normal(), block=Block.BC5)
    material = load(tree)
    assert "gloss" not in material.maps
    assert apart(material.maps["normal"], bumps()) <= 6


def test_an_opaque_alpha_of_a_normal_is_no_gloss(tree: Path) -> None:
    save(tree / "textures/stone/wall01_n.dds", old_normal(gloss=None))
    assert "gloss" not in load(tree).maps


@pytest.mark.parametrize("form", ["ids", "palette"])
def test_masks_have_ids_or_palette_colours_and_are_found_in_both_trees(tree: Path, form: str) -> None:
    ids = labels(class_id("stone"), class_id("wood"), 200, class_id("metal"))
    colours = np.array([*CLASS_COLOURS, (1, 2, 3)], np.uint8)[np.minimum(ids, 7)]
    places = [tree / "textures/stone", tree / "textures/PBR/stone", tree / "painted/stone"]
    for place in places:
        path = save(place / "WALL01_mask.png", ids if form == "ids" else colours)
        material = load(tree, masks=str(tree / "painted") if "painted" in str(place) else None)
        expected = np.where(ids == 200, IGNORE, ids)
        assert (material.maps["mask"][..., 0] == expected).all()
        assert material.label is None
        path.unlink()


@pytest.mark.parametrize(("others", "label"), [(0, "fabric"), (1, "fabric"), (2, None), (20, None)])
def test_a_mask_of_nearly_one_class_gives_the_class(tree: Path, others: int, label: str | None) -> None:
    ids = np.full(SIZE * SIZE, class_id("fabric"), np.uint8)
    ids[: others * SIZE * SIZE // 128] = IGNORE
    save(tree / "textures/stone/wall01_mask.png", ids.reshape(SIZE, SIZE))
    assert load(tree).label == label


def test_a_pair_with_only_a_mask_is_listed(tmp_path: Path) -> None:
    save_old(tmp_path, "wall")
    save(tmp_path / "wall_mask.png", labels(5))
    material = load(tmp_path, "wall")
    assert set(material.maps) == {"diffuse", "gloss", "normal", "mask"}
    assert material.label == "stone"


def test_a_pair_without_new_set_and_mask_is_left_out_with_a_note(tree: Path) -> None:
    save_old(tree / "textures", "stone/floor")
    save(tree / "textures/stone/lonely.dds", picture())
    save_new(tree / "textures/PBR", "stone/stray")
    source = SkyrimSource(str(tree))
    assert [entry.id for entry in source.entries()] == ["stone/wall01"]
    assert {(f.material, f.check, f.severity) for f in source.left_out()} == {
        ("stone/floor", "no new set", "note"),
        ("stone/lonely.dds", "unpaired", "note"),
        ("stone/stray_rmaos", "no old pair", "note"),
    }


def test_a_tree_without_targets_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    save_old(tmp_path / "old", "wall")
    with pytest.raises(DataError, match=r"1 old pairs, none with a new set, since there is no textures/PBR"):
        SkyrimSource(str(tmp_path / "old")).entries()
    save_new(tmp_path / "new", "other/wall")
    with pytest.raises(DataError, match=r"none with a new set below .*new or a mask\. Give new= or masks="):
        SkyrimSource(str(tmp_path / "old"), new=str(tmp_path / "new")).entries()
    for option in ("new", "masks"):
        with pytest.raises(DataError, match="missing: no such folder"):
            SkyrimSource(str(tmp_path / "old"), **{option: str(tmp_path / "missing")}).entries()


@pytest.mark.parametrize("below", ["textures/PBR", "Textures/pbr", "PBR", "textures", "."])
def test_the_new_tree_is_found_below_what_is_given(tmp_path: Path, below: str) -> None:
    save_old(tmp_path / "old/textures", "Stone/Wall_d")
    (tmp_path / "old/textures/Stone/Wall_d_n.dds").rename(tmp_path / "old/textures/Stone/Wall_N.dds")
    save_new(tmp_path / "new" / below, "stone/WALL")
    source = SkyrimSource(str(tmp_path / "old"), new=str(tmp_path / "new"))
    (entry,) = source.entries()
    assert entry.id == "Stone/Wall"
    assert "albedo" in source.load(entry).maps


def test_what_a_conversion_writes_is_read_as_a_new_tree(tmp_path: Path) -> None:
    save_old(tmp_path / "old/textures", "stone/wall01")
    one = picture(SIZE, SIZE, seed=40)
    maps = PbrMaps(
        albedo=one,
        normal=np.ascontiguousarray(old_normal()[..., :3]),
        roughness=one[..., :1],
        metallic=one[..., 1:2],
        ao=one[..., 2:3],
        height=one[..., :1],
    )
    name = PurePosixPath("stone/wall01")
    write_texture(tmp_path / "new", name, name, maps)
    material = load(tmp_path / "old", new=str(tmp_path / "new"))
    for name, wanted in {"albedo": one[..., :3], "metallic": one[..., 1:2], "ao": one[..., 2:3]}.items():
        assert apart(material.maps[name], wanted) <= 6, name


def test_the_smallest_picture_gives_the_size_and_the_audit_reports_it(tree: Path) -> None:
    save_new(tree / "textures/PBR", "stone/wall01", size=2 * SIZE)
    material, findings = read(tree)
    assert material is not None
    assert material.size == (SIZE, SIZE)
    (note,) = [f for f in findings if f.check == "size"]
    assert (note.severity, "reduced to 32x32" in note.message) == ("note", True)
    assert apart(material.maps["roughness"], picture(SIZE, SIZE, seed=20)[..., :1]) <= 6


def test_a_plain_picture_of_any_size_fits(tree: Path) -> None:
    packed = np.full((4, 4, 4), (200, 0, 255, 255), np.uint8)
    save(tree / "textures/PBR/stone/wall01_rmaos.dds", packed)
    maps = load(tree).maps
    assert maps["roughness"].shape == (SIZE, SIZE, 1)
    assert (maps["metallic"] == 0).all()


def test_sides_that_a_conversion_rounded_up_fit(tmp_path: Path) -> None:
    save(tmp_path / "wall.png", picture(62, 126))
    save(tmp_path / "wall_n.png", rgba(np.full((62, 126, 3), (120, 130, 255), np.uint8), 9))
    save(tmp_path / "PBR/wall.dds", picture(64, 128))
    assert load(tmp_path, "wall").size == (62, 126)


def test_pictures_of_different_shape_are_an_error(tree: Path) -> None:
    save(tree / "textures/PBR/stone/wall01.dds", picture(SIZE, 2 * SIZE))
    material, findings = read(tree)
    assert material is None
    assert any("different aspect ratios" in f.message and f.severity == "error" for f in findings)


def test_sixteen_bits_of_a_png_height_survive(tree: Path) -> None:
    (tree / "textures/PBR/stone/wall01_p.dds").unlink()
    ramp = (np.arange(SIZE * SIZE, dtype=np.uint16) * 61).reshape(SIZE, SIZE)
    save(tree / "textures/PBR/stone/wall01_p.png", ramp)
    height = load(tree).maps["height"][..., 0].astype(float)
    assert np.abs(height - ramp / ramp.max() * 65535).max() <= 0.51


@pytest.mark.parametrize(
    ("file", "pixels", "block", "said"),
    [
        ("wall01.dds", picture(SIZE, SIZE), Block.BC5, "got two channels"),
        ("wall01_n.dds", old_normal(), Block.BC4, "got one channel"),
        ("PBR:wall01_rmaos.dds", picture(SIZE, SIZE), Block.BC4, "got one channel (BC4); expected roughness"),
        (
            "wall01_n.dds",
            rgba(np.full((SIZE, SIZE, 3), 40, np.uint8), 9),
            Block.BC7,
            "expected a tangent-space",
        ),
        ("PBR:wall01_p.dds", picture(SIZE, SIZE), Block.BC7, "three different channels"),
    ],
)
def test_wrong_channels_are_an_error_that_names_the_file_or_the_map(
    tree: Path, file: str, pixels: np.ndarray, block: Block, said: str
) -> None:
    folder = tree / "textures" / ("PBR/stone" if file.startswith("PBR:") else "stone")
    save(folder / file.removeprefix("PBR:"), pixels, block=block)
    material, findings = read(tree)
    assert material is None
    assert [f for f in findings if f.severity == "error" and said in f.message], findings


def test_every_broken_file_is_named_at_once(tree: Path) -> None:
    for path in ("stone/wall01.dds", "PBR/stone/wall01_rmaos.dds"):
        (tree / "textures" / path).write_bytes(b"DDS broken")
    source = SkyrimSource(str(tree))
    with pytest.raises(DataError) as caught:
        source.load(source.entries()[0])
    assert "stone/wall01.dds" in str(caught.value)
    assert "wall01_rmaos.dds" in str(caught.value)


def test_a_source_travels_without_its_listing_and_still_loads(tree: Path) -> None:
    source = SkyrimSource(str(tree))
    before = len(pickle.dumps(source))
    (entry,) = source.entries()
    sent = pickle.dumps(source)
    assert len(sent) == before
    assert pickle.loads(sent).load(entry).id == entry.id
    with pytest.raises(DataError, match="List the entries again"):
        source.load(Entry(entry.id, entry.family))


@given(
    st.from_regex(r"[a-z]{3,8}/[a-z]{4,8}[a-z]", fullmatch=True), st.integers(0, 99), st.sampled_from("ab")
)
def test_numbered_and_lettered_variants_of_a_folder_share_a_family(
    name: str, number: int, letter: str
) -> None:
    variants = [f"{name}{number:02d}", f"{name}{number:02d}{letter}", f"{name}_{number}", name.upper()]
    assert {family(PurePosixPath(variant)) for variant in variants} == {name}


def test_a_clean_pair_passes_the_audit(tree: Path) -> None:
    source = SkyrimSource(str(tree))
    material, findings = read_audited(source, source.entries()[0])
    assert material is not None
    assert "diffuse" in material.maps
    assert [f for f in findings if f.severity == "error"] == []


def test_settings_are_read_from_text() -> None:
    source = SkyrimSource.parse("skyrim:old=/a,new=/b,masks=/c", size=512)
    assert (source.old, source.new, source.masks, source.size) == ("/a", "/b", "/c", 512)
    with pytest.raises(ConfigError, match=r"got mask; expected a setting of skyrim\. Did you mean masks\?"):
        SkyrimSource.parse("skyrim:old=/a,mask=/c", size=512)
    with pytest.raises(ConfigError, match="got no old; expected a source like"):
        SkyrimSource.parse("skyrim:new=/b", size=512)

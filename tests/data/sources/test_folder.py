from __future__ import annotations

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pbrlib.data.materials.material import Material
from pbrlib.data.sources.folder import FolderSource, family_of
from pbrlib.errors import DataError
from pbrlib.maps import CLASS_COLOURS, IGNORE, MAPS, class_id
from pbrlib.textures.layouts import Block
from tests.convert.textures import dds
from tests.data.sources.folders import bumps, colours, write, write_manifest, write_material


def load(root: Path, name: str = "planks", *, size: int = 1024) -> Material:
    source = FolderSource(str(root), size)
    entry = next(entry for entry in source.entries() if entry.id == name)
    return source.load(entry)


def test_maps_are_stored_with_a_class_for_every_pixel(tmp_path: Path) -> None:
    folder = write_material(tmp_path, "planks", ao=colours(1)[..., 0])
    write(folder / "height.png", np.full((32, 32), 65535, np.uint16))
    write_manifest(
        tmp_path, {"id": "planks", "class": "wood", "licence": "CC0-1.0", "source_asset": "a tree"}
    )
    material = load(tmp_path)
    for name, stored in material.maps.items():
        assert stored.shape == (32, 32, MAPS[name].channels), name
        assert stored.dtype == np.dtype(MAPS[name].dtype), name
    assert set(material.maps) == {"albedo", "normal", "roughness", "ao", "height", "mask"}
    assert (material.label, material.licence, material.attribution) == ("wood", "CC0-1.0", "a tree")
    assert (material.maps["mask"] == class_id("wood")).all()
    assert (material.maps["height"] == 65535).all()


def test_a_height_is_rescaled_and_its_original_range_is_returned(tmp_path: Path) -> None:
    folder = write_material(tmp_path, "planks")
    ramp = (np.arange(32 * 32, dtype=np.uint16) * 32 + 16384).reshape(32, 32)
    write(folder / "height.png", ramp)
    material = load(tmp_path)
    height = material.maps["height"][..., 0].astype(float)
    expected = (ramp.astype(float) - 16384) / (1023 * 32) * 65535
    assert np.abs(height - expected).max() <= 0.51, "sixteen bits are kept"
    assert material.height_range == pytest.approx((16384 / 65535, (16384 + 1023 * 32) / 65535))


def test_a_constant_height_is_not_rescaled(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", height=np.full((32, 32), 127, np.uint8))
    material = load(tmp_path)
    assert set(np.unique(material.maps["height"])) == {127 * 257}
    assert material.height_range == (127 / 255, 127 / 255)


def test_eight_bit_heights_are_rescaled_to_the_full_range(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", height=np.tile(np.array([0, 255], np.uint8), (32, 16)))
    assert sorted(np.unique(load(tmp_path).maps["height"])) == [0, 65535]


@pytest.mark.parametrize("block", [Block.BC1, Block.BC3, Block.BC7])
def test_a_dds_diffuse_is_read(tmp_path: Path, block: Block) -> None:
    folder = write_material(tmp_path, "planks")
    picture = np.full((32, 32, 4), (200, 100, 50, 255), np.uint8)
    (folder / "diffuse.dds").write_bytes(dds(picture, block=block, srgb=True))
    diffuse = load(tmp_path).maps["diffuse"].astype(int)
    assert np.abs(diffuse - (200, 100, 50)).max() <= 255 / 31  # a step of BC1's five bits


def test_a_two_channel_normal_gets_its_third_channel(tmp_path: Path) -> None:
    folder = write_material(tmp_path, "planks")
    straight = load(tmp_path).maps["normal"].astype(int)
    picture = np.dstack((bumps(), np.full((32, 32), 255, np.uint8)))
    (folder / "normal.png").unlink()
    (folder / "normal.dds").write_bytes(dds(picture, block=Block.BC5))
    assert np.abs(load(tmp_path).maps["normal"].astype(int) - straight).mean() <= 2


def test_directx_normals_become_opengl(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", normal=bumps(convention="directx"))
    write_material(tmp_path, "slats")
    write_manifest(tmp_path, {"id": "planks", "normal_convention": "directx"})
    flipped, straight = (load(tmp_path, name).maps["normal"].astype(int) for name in ("planks", "slats"))
    assert np.abs(flipped - straight).max() <= 1


def test_short_vectors_are_normalised(tmp_path: Path) -> None:
    short = np.rint((bumps().astype(float) - 127.5) * 0.6 + 127.5).astype(np.uint8)
    write_material(tmp_path, "planks", normal=short)
    vectors = load(tmp_path).maps["normal"].astype(float) / 127.5 - 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=0.02)


def test_the_missing_blue_of_two_channel_compression_is_computed(tmp_path: Path) -> None:
    two_channels = bumps()
    two_channels[..., 2] = 0
    write_material(tmp_path, "planks", normal=two_channels)
    assert np.abs(load(tmp_path).maps["normal"].astype(int) - bumps()).max() <= 2


def test_albedo_is_reduced_in_linear_light(tmp_path: Path) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    write_material(tmp_path, "planks", albedo=stripes, roughness=stripes[..., 0])
    material = load(tmp_path, size=16)
    assert material.size == (16, 16)
    assert (material.maps["albedo"] == 188).all()  # half the light is 0.735 in sRGB
    assert (material.maps["roughness"] == 128).all()  # data is averaged as it is


def test_reduced_normals_have_unit_length_and_masks_keep_their_ids(tmp_path: Path) -> None:
    mask = np.where(np.arange(32)[:, None] < 16, class_id("metal"), class_id("wood")) + np.zeros((1, 32))
    write_material(tmp_path, "planks", mask=mask.astype(np.uint8))
    material = load(tmp_path, size=8)
    vectors = material.maps["normal"].astype(float) / 127.5 - 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=0.02)
    assert set(np.unique(material.maps["mask"])) == {class_id("metal"), class_id("wood")}


def test_maps_are_reduced_but_not_enlarged(tmp_path: Path) -> None:
    write_material(tmp_path, "planks")
    wide = {"albedo": colours(0)[:16], "normal": bumps()[:16], "roughness": colours(1)[:16, :, 0]}
    write_material(tmp_path, "wide", **wide)
    assert load(tmp_path, size=1024).size == (32, 32)
    assert load(tmp_path, "wide", size=16).size == (8, 16)


def test_palette_masks_become_class_ids(tmp_path: Path) -> None:
    mask = np.full((32, 32, 3), 3, np.uint8) + np.array([0, 1, 2], np.uint8)  # no colour of the palette
    for number, colour in enumerate(CLASS_COLOURS):
        mask[number] = colour
    write_material(tmp_path, "planks", mask=mask)
    labels = load(tmp_path).maps["mask"][..., 0]
    assert [int(label) for label in labels[:, 0][:8]] == [*range(7), IGNORE]


def test_metallic_constant_gives_a_metallic_map(tmp_path: Path) -> None:
    write_material(tmp_path, "planks")
    write_material(tmp_path, "sheet")
    write_manifest(
        tmp_path,
        {"id": "planks", "class": "wood", "metallic_constant": 0.0},
        {"id": "sheet", "class": "metal"},
    )
    assert (load(tmp_path).maps["metallic"] == 0).all()
    assert "metallic" not in load(tmp_path, "sheet").maps


def test_the_parent_folder_gives_the_class(tmp_path: Path) -> None:
    write_material(tmp_path / "metal", "sheet")
    write_material(tmp_path, "thing")
    assert load(tmp_path, "sheet").label == "metal"
    assert load(tmp_path, "thing").label is None
    assert (load(tmp_path, "thing").maps["mask"] == IGNORE).all()


def test_tileability_is_measured_without_a_manifest(tmp_path: Path) -> None:
    ramp = np.repeat(np.tile(np.linspace(0, 250, 32).astype(np.uint8), (32, 1))[..., None], 3, axis=-1)
    wave = np.rint(np.sin(np.arange(32) * 2 * np.pi / 32) * 90 + 120).astype(np.uint8)
    waves = np.repeat(np.tile(wave, (32, 1))[..., None], 3, axis=-1)
    write_material(tmp_path, "cut", albedo=ramp)
    write_material(tmp_path, "tiles", albedo=waves)
    write_material(tmp_path, "told", albedo=ramp)
    write_manifest(tmp_path, {"id": "told", "tileable": True})
    assert [load(tmp_path, name).tileable for name in ("cut", "tiles", "told")] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("metal_049a", "metal_049"),
        ("metal_049b", "metal_049"),
        ("planks_01", "planks"),
        ("wood_01_02", "wood"),
        ("veneer1", "veneer"),
        ("brick_wall_a", "brick_wall"),
        ("049", "049"),
        ("roof tiles", "roof tiles"),
    ],
)
def test_variants_of_one_original_have_one_family(name: str, family: str) -> None:
    assert family_of(name) == family


def test_a_pickled_source_reads_the_same(tmp_path: Path) -> None:
    write_material(tmp_path, "planks")
    source = FolderSource(str(tmp_path))
    entry = source.entries()[0]
    copied = pickle.loads(pickle.dumps(source))
    assert (copied.load(entry).maps["albedo"] == source.load(entry).maps["albedo"]).all()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def bomb(path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


def text(path: Path) -> None:
    path.write_text("not a picture")


def cmyk(path: Path) -> None:
    Image.new("CMYK", (32, 32)).save(path, "JPEG")


def absurd_dds(path: Path) -> None:
    path.write_bytes(b"DDS " + b"\xff" * 124 + b"\0" * 64)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "does not decode"),
        (bomb, "Reduce it"),
        (text, "does not decode"),
        (cmyk, "got colour mode CMYK; expected grey or RGB"),
        (absurd_dds, "does not decode"),
    ],
)
def test_a_hostile_file_is_an_error_with_its_name(tmp_path: Path, damage, words: str) -> None:
    folder = write_material(tmp_path, "planks")
    damage(folder / "albedo.png")
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path)
    assert str(folder / "albedo.png") in str(caught.value)


def test_all_errors_of_a_material_are_reported(tmp_path: Path) -> None:
    write(tmp_path / "planks" / "roughness.png", colours(0))
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    for words in ("no normal map", "neither albedo nor diffuse", "three different channels"):
        assert words in str(caught.value)


def test_maps_of_different_size_are_refused(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", ao=colours(1, 16)[..., 0])
    with pytest.raises(DataError, match=r"different size: albedo 32x32.*ao 16x16"):
        load(tmp_path)


def test_object_space_normals_are_refused(tmp_path: Path) -> None:
    write_material(tmp_path, "planks", normal=255 - bumps())
    with pytest.raises(DataError, match="point into the surface"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ('{"id": "planks"}', "got dict; expected a list"),
        ('{"shards": [], "format_version": 3}', "got a prepared shard set; expected a folder"),
    ],
)
def test_an_invalid_manifest_is_refused_with_its_path(tmp_path: Path, content: str, words: str) -> None:
    write_material(tmp_path, "planks")
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        FolderSource(str(tmp_path)).entries()
    assert str(tmp_path / "manifest.json") in str(caught.value)


def test_a_folder_without_materials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no material"):
        FolderSource(str(tmp_path)).entries()
    with pytest.raises(DataError, match="no such folder"):
        FolderSource(str(tmp_path / "nowhere")).entries()

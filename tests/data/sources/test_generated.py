from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from pbrlib.data.materials.material import Entry, Material
from pbrlib.data.sources.generated import STYLES, GeneratedSource
from pbrlib.data.sources.generated.canvas import Canvas
from pbrlib.data.sources.generated.lattice import cells
from pbrlib.data.sources.generated.noise import noise
from pbrlib.data.sources.generated.source import paint
from pbrlib.errors import ConfigError, DataError
from pbrlib.geometry.normals import normal_from_height
from pbrlib.maps import CLASSES, HEIGHT, MAPS, NORMAL, class_id

SIZE = 96


def material(family: str, *, seed: int = 5, size: int = SIZE) -> Material:
    source = GeneratedSource(count=1, size=size, seed=seed, families=(family,))
    return source.load(source.entries()[0])


@pytest.fixture(scope="module")
def every_family() -> dict[str, Material]:
    torch.set_num_threads(1)
    return {family: material(family) for family in STYLES}


def decoded_normal(stored: Material) -> torch.Tensor:
    return NORMAL.decode(torch.from_numpy(stored.maps["normal"].transpose(2, 0, 1)[None].copy()))


def test_one_seed_gives_equal_bytes_also_after_pickling() -> None:
    source = GeneratedSource(count=9, size=48, seed=4, mixed_share=0.5)
    twin = pickle.loads(pickle.dumps(source))
    for entry in source.entries():
        first, second = source.load(entry), twin.load(entry)
        assert first.maps.keys() == second.maps.keys()
        assert all(np.array_equal(first.maps[name], second.maps[name]) for name in first.maps)


def test_sources_of_two_names_share_neither_ids_nor_materials() -> None:
    first, second = (GeneratedSource(count=9, size=48, seed=4, name=name) for name in ("skyrim", "matsynth"))
    assert not {entry.id for entry in first.entries()} & {entry.id for entry in second.entries()}
    assert [entry.family for entry in first.entries()] == [entry.family for entry in second.entries()]
    ours, theirs = (source.load(source.entries()[0]) for source in (first, second))
    assert (ours.id, ours.source) == ("skyrim-ceramic-square-0000", "skyrim")
    assert not np.array_equal(ours.maps["albedo"], theirs.maps["albedo"])
    assert GeneratedSource(count=1, size=48, seed=4).entries()[0].id == "ceramic-square-0000"


def test_old_materials_have_a_diffuse_and_a_gloss() -> None:
    settings = "generated:count=7,size=48,seed=4"
    plain, old = GeneratedSource.parse(settings), GeneratedSource.parse(f"{settings},old=true")
    drawn = []
    for entry in old.entries():
        modern, both = plain.load(entry), old.load(entry)
        assert all(np.array_equal(both.maps[name], stored) for name, stored in modern.maps.items())
        assert both.maps.keys() - modern.maps.keys() == {"diffuse", "gloss"}
        assert both.maps["diffuse"].shape == both.maps["albedo"].shape
        assert both.maps["gloss"].shape == (48, 48, 1)
        assert np.array_equal(both.maps["diffuse"], old.load(entry).maps["diffuse"])
        drawn.append(both.maps["diffuse"].mean() / both.maps["albedo"].mean())
    assert max(drawn) > 1.1 * min(drawn), "each material has its own light"


def test_number_of_threads_does_not_change_the_bytes() -> None:
    single = material("metal/plate", size=160)
    torch.set_num_threads(2)
    double = material("metal/plate", size=160)
    assert all(np.array_equal(single.maps[name], double.maps[name]) for name in single.maps)


def test_another_seed_and_another_number_give_other_materials() -> None:
    source = GeneratedSource(count=2, size=48, seed=1, families=("wood/plank",))
    first, second = (source.load(entry).maps["albedo"] for entry in source.entries())
    other = material("wood/plank", seed=2, size=48).maps["albedo"]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_a_larger_count_changes_no_earlier_entry(share: float) -> None:
    many = GeneratedSource(count=150, size=32, seed=1, mixed_share=share).entries()
    for count in (1, 7, 8, 40):
        assert GeneratedSource(count=count, size=32, seed=1, mixed_share=share).entries() == many[:count]
    assert len({entry.id for entry in many}) == len(many)


def test_a_material_depends_on_its_id_not_on_the_rest_of_the_set() -> None:
    entry = Entry("stone-brick-0002", "stone/brick")
    one = GeneratedSource(count=1, size=32, seed=1).load(entry)
    other = GeneratedSource(count=99, size=32, seed=1, mixed_share=0.9, families=("stone/brick",)).load(entry)
    assert np.array_equal(one.maps["albedo"], other.maps["albedo"])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_the_first_seven_entries_have_all_classes(share: float) -> None:
    entries = GeneratedSource(count=7, size=32, seed=1, mixed_share=share).entries()
    assert {entry.family.partition("/")[0] for entry in entries} == set(CLASSES)


def test_mixed_share_is_met() -> None:
    entries = GeneratedSource(count=400, size=32, seed=1, mixed_share=0.25).entries()
    assert sum(entry.family.startswith("mixed/") for entry in entries) == 100


def test_every_class_has_at_least_three_families() -> None:
    for name in CLASSES:
        assert sum(family.startswith(f"{name}/") for family in STYLES) >= 3


def test_only_the_named_families_are_made() -> None:
    named = ("wood/plank", "metal/plate", "mixed/studded")
    entries = GeneratedSource(count=30, size=32, seed=1, families=named).entries()
    assert {entry.family for entry in entries} == set(named)


def test_every_map_has_its_shape_and_type(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        assert set(made.maps) == {"albedo", "normal", "roughness", "metallic", "ao", "height", "mask"}
        for name, values in made.maps.items():
            assert values.shape == (SIZE, SIZE, MAPS[name].channels), (family, name)
            assert values.dtype == np.dtype(MAPS[name].dtype), (family, name)


def test_mask_and_label_agree(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        found = set(np.unique(made.maps["mask"]).tolist())
        name = family.partition("/")[0]
        if name == "mixed":
            assert made.label is None
            assert 2 <= len(found) <= 3, family
            assert found <= set(range(len(CLASSES)))
        else:
            assert made.label == name
            assert found == {class_id(name)}, family


def test_no_class_covers_nearly_all_of_a_mixed_texture(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        if family.startswith("mixed/"):
            counts = np.bincount(made.maps["mask"].ravel(), minlength=len(CLASSES))
            assert counts.max() < 0.97 * counts.sum(), family


def test_maps_have_no_seam_at_the_border(every_family: dict[str, Material]) -> None:
    ranks: list[float] = []
    for family, made in every_family.items():
        for name in ("albedo", "normal", "roughness", "metallic", "ao", "height"):
            values = made.maps[name].astype(np.float64)
            for axis in (0, 1):
                steps = np.abs(np.roll(values, -1, axis) - values).mean(axis=(1 - axis, 2))
                seam, inside = steps[-1], steps[:-1]
                assert seam <= inside.max() * 1.5 + 1.0, (family, name, axis)
                ranks.append(float((seam > inside).mean()))
    # A joint may fall on the border by chance; a seam in every texture would be no chance.
    assert np.mean([rank > 0.95 for rank in ranks]) < 0.12
    assert np.mean(ranks) < 0.6


def test_normals_are_unit_and_mostly_face_the_viewer(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        raw = made.maps["normal"].astype(np.float64) / 127.5 - 1.0
        assert np.abs(np.linalg.norm(raw, axis=-1) - 1.0).max() < 0.01, family
        assert raw[..., 2].min() > 0.0, family
        assert np.abs(raw[..., :2].mean(axis=(0, 1))).max() < 0.1, family


def test_normal_is_the_slope_of_height(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        height = HEIGHT.decode(
            torch.from_numpy(made.maps["height"].astype(np.int32).transpose(2, 0, 1)[None])
        )
        normal = decoded_normal(made)
        slope = -normal[:, 0] / normal[:, 2]
        per_unit = (torch.roll(height, -1, -1) - torch.roll(height, 1, -1))[:, 0] / 2.0
        steady = normal[:, 2] > 0.3  # 8-bit normals near the horizon do not give slopes back
        scale = float((slope * per_unit)[steady].sum() / per_unit[steady].square().sum())
        again = normal_from_height(height, scale_px=scale, tileable=True)
        cosine = (again * normal).sum(dim=1).clamp(-1.0, 1.0)
        assert float(cosine.acos().rad2deg().mean()) < 1.0, family


def test_metallic_is_zero_or_one(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        metallic = made.maps["metallic"]
        assert np.isin(metallic, (0, 255)).mean() > 0.99, family
        metal = made.maps["mask"] == class_id("metal")
        assert metallic[~metal].max(initial=0) == 0, family
        if metal.any():
            assert (metallic[metal] == 255).mean() > 0.3, family


def test_hollows_are_occluded(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        height, ao = made.maps["height"].astype(np.float64), made.maps["ao"].astype(np.float64)
        if ao.std() < 2.0:
            continue  # polished and flat: nothing occludes anything
        around = sum(np.roll(height, (dy, dx), (0, 1)) for dy in (-3, 0, 3) for dx in (-3, 0, 3)) / 9.0
        low = height - around
        assert ao[low < np.quantile(low, 0.1)].mean() < ao[low > np.quantile(low, 0.9)].mean(), family


def test_albedo_is_plausible_and_varies(every_family: dict[str, Material]) -> None:
    for family, made in every_family.items():
        albedo = made.maps["albedo"].astype(np.float64) / 255.0
        assert 0.08 < albedo.mean() < 0.92, family
        assert albedo.mean(axis=2).std() > 0.01, family


def test_structure_keeps_its_scale_at_every_size() -> None:
    for family in ("stone/brick", "leather/pebbled", "wood/plank"):
        small = paint(family, seed=3, size=128).albedo
        large = paint(family, seed=3, size=256).albedo
        shrunk = torch.nn.functional.avg_pool2d(large[None], 2)[0]
        pair = torch.stack([small.mean(dim=0).flatten(), shrunk.mean(dim=0).flatten()])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.7, family


@pytest.mark.parametrize("family", STYLES)
def test_every_style_stays_on_its_device(family: str) -> None:
    surface = paint(family, seed=1, size=32, device="meta")
    assert surface.albedo.is_meta
    assert surface.elevation.is_meta


def test_noise_has_zero_mean_and_unit_variance_at_every_size() -> None:
    for size in (64, 200):
        field = noise(Canvas.seeded(1, size=size), high=24, slope=1.0, stretch=(2.0, 1.0))
        assert abs(float(field.mean())) < 1e-4
        assert float(field.std()) == pytest.approx(1.0, abs=0.1)


def test_cells_are_nearest_to_their_own_centre() -> None:
    canvas = Canvas.seeded(2, size=64)
    found = cells(canvas, rows=5, columns=5)
    centres = torch.stack([canvas.u * 5 - found.x, canvas.v * 5 - found.y])
    for index in range(found.count):
        mine = centres[:, found.index == index]
        gap = (mine - mine[:, :1]).remainder(5.0)
        assert torch.minimum(gap, 5.0 - gap).max() < 1e-4
    assert found.edge.min() >= -1e-5
    assert (found.near <= 1.5).all()


def test_parse_reads_every_setting() -> None:
    source = GeneratedSource.parse(
        "generated:count=64,size=256,seed=1,mixed_share=0.3,families=wood/plank+metal/plate"
    )
    assert source == GeneratedSource(64, 256, 1, mixed_share=0.3, families=("wood/plank", "metal/plate"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("generated:count=64,size=256", "got no seed"),
        ("generated", "got no count, size, seed"),
        ("generated:count=many,size=256,seed=1", "count: got 'many'"),
        ("generated:count=1,size=256,seed=1,colour=2", "got colour; expected a setting"),
        ("generated:count=0,size=256,seed=1", "count: got 0; expected 1 or more"),
        ("generated:count=1,size=8,seed=1", "size: got 8 px"),
        ("generated:count=1,size=64,seed=1,mixed_share=1.5", "mixed_share: got 1.5"),
        ("generated:count=1,size=64,seed=1,mixed_share=nan", "mixed_share: got nan"),
        ("generated:count=1,size=64,seed=1,families=wood/plonk", "got the family wood/plonk"),
    ],
)
def test_an_error_in_the_settings_is_reported(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        GeneratedSource.parse(text)


def test_an_entry_of_another_source_is_refused() -> None:
    with pytest.raises(DataError, match="marble-1: got the family scanned/marble"):
        GeneratedSource(count=1, size=32, seed=1).load(Entry("marble-1", "scanned/marble"))

"""Tests of the augmentation of raw batches, which depends only on the seed of each draw."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pbrlib.data.augment.augmentspec import AugmentSpec, SkyPhotometricSpec
from pbrlib.data.augment.pipeline import augment
from pbrlib.data.draws.batch import Batch, RawBatch, sample_hashes
from pbrlib.errors import DataError
from pbrlib.geometry import normal_from_height, rotate90
from pbrlib.maps import AO, IGNORE, MAPS, ROUGHNESS
from tests.geometry.test_geometry import smooth_height

NAMES = ("diffuse", "gloss", "albedo", "normal", "roughness", "metallic", "ao", "height", "mask", "relief")

EVERYTHING = AugmentSpec(flip=True, rotate90=True, sky_photometric=SkyPhotometricSpec(p=0.7))


def raw_batch(num: int = 5, *, size: int = 16, seed: int = 0, names: tuple[str, ...] = NAMES) -> RawBatch:
    """Return a batch of random maps; samples with even numbers have a diffuse."""
    generator = torch.Generator().manual_seed(seed)
    maps = {}
    for name in names:
        kind = MAPS[name]
        high = 7 if name == "mask" else kind.maximum + 1
        shape = (num, kind.channels, size, size)
        drawn = torch.randint(0, high, shape, generator=generator, dtype=torch.int32)
        maps[name] = drawn.to(getattr(torch, kind.dtype))
    present = {name: torch.ones(num, dtype=torch.bool) for name in names}
    for name in {"diffuse", "gloss"} & set(names):
        present[name] = torch.arange(num) % 2 == 0
        maps[name][~present[name]] = MAPS[name].fill
    return RawBatch(
        maps=maps,
        present=present,
        seeds=torch.arange(num) * 1000 + 17,
        ids=tuple(f"material-{i}" for i in range(num)),
        classes=torch.arange(num) % 7,
    )


@pytest.mark.parametrize("preset", ["rev7", "v4"])
@given(num=st.integers(1, 6), parts=st.integers(1, 7), size=st.sampled_from([7, 16, 33]))
@settings(max_examples=15)
def test_augmenting_a_batch_in_parts_gives_the_same_bits(preset, num, parts, size):
    spec = EVERYTHING.model_copy(update={"sky_photometric": SkyPhotometricSpec(p=0.7, preset=preset)})
    raw = raw_batch(num, size=size)
    whole = augment(raw, spec, device="cpu")
    split = [augment(part, spec, device="cpu") for part in raw.split(parts) if len(part)]
    assert sample_hashes(Batch.concatenate(split)) == sample_hashes(whole)


def test_a_sample_does_not_depend_on_its_position():
    raw = raw_batch(4)
    order = [2, 0, 3, 1]
    shuffled = RawBatch(
        maps={name: x[order] for name, x in raw.maps.items()},
        present={name: flags[order] for name, flags in raw.present.items()},
        seeds=raw.seeds[order],
        ids=tuple(raw.ids[i] for i in order),
        classes=raw.classes[order],
    )
    straight, mixed = augment(raw, EVERYTHING, device="cpu"), augment(shuffled, EVERYTHING, device="cpu")
    for name, x in straight.maps.items():
        assert torch.equal(x[order], mixed.maps[name]), name


def test_a_sample_depends_on_its_seed():
    raw = raw_batch(6)
    first = augment(raw, EVERYTHING, device="cpu")
    assert sample_hashes(augment(raw, EVERYTHING, device="cpu")) == sample_hashes(first)
    other = augment(replace(raw, seeds=raw.seeds + 1), EVERYTHING, device="cpu")
    assert all(
        not torch.equal(a, b) for a, b in zip(other.maps["diffuse"], first.maps["diffuse"], strict=True)
    )


def test_the_default_only_decodes_and_bakes():
    raw = raw_batch(4)
    batch = augment(raw, AugmentSpec(), device="cpu")
    for name in ("albedo", "normal", "roughness", "height", "relief"):
        torch.testing.assert_close(batch.maps[name], MAPS[name].decode(raw.maps[name]))
    own = raw.present["diffuse"]
    torch.testing.assert_close(batch.maps["diffuse"][own], MAPS["diffuse"].decode(raw.maps["diffuse"])[own])
    assert float(batch.maps["diffuse"][~own].mean()) > 0.05
    assert torch.equal(batch.maps["mask"], raw.maps["mask"].squeeze(1).long())
    assert bool(batch.valid.all()) and batch.valid.shape == (4, 1, 16, 16)
    assert batch.ids == raw.ids and torch.equal(batch.classes, raw.classes)


def test_maps_have_the_ranges_of_their_encoding():
    batch = augment(raw_batch(6), EVERYTHING, device="cpu")
    for name in ("diffuse", "gloss", "albedo", "roughness", "metallic", "ao", "height"):
        assert float(batch.maps[name].min()) >= 0.0 and float(batch.maps[name].max()) <= 1.0, name
        assert batch.maps[name].dtype == torch.float32
    lengths = batch.maps["normal"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    assert float(batch.maps["relief"].min()) < -0.5


def test_a_baked_sample_counts_as_having_a_diffuse_and_a_gloss():
    batch = augment(raw_batch(4), AugmentSpec(), device="cpu")
    assert batch.present["diffuse"].all() and batch.present["gloss"].all()


def test_a_missing_target_is_not_present_and_has_its_fill_value():
    raw = raw_batch(2)
    raw.present["ao"][1] = False
    raw.maps["ao"][1] = AO.fill
    batch = augment(raw, EVERYTHING, device="cpu")
    assert batch.present["ao"].tolist() == [True, False]
    assert batch.maps["ao"][1].unique().tolist() == [1.0]


def test_all_maps_get_the_same_orientation():
    raw = raw_batch(24)
    turned = augment(raw, AugmentSpec(rotate90=True), device="cpu")
    still = augment(raw, AugmentSpec(), device="cpu")
    seen = set()
    for i in range(len(raw)):
        options = [k for k in range(4) if torch.equal(still.maps["mask"][i].rot90(k), turned.maps["mask"][i])]
        assert len(options) == 1
        seen.add(options[0])
        for name in ("albedo", "height", "relief"):
            assert torch.equal(still.maps[name][i].rot90(options[0], (-2, -1)), turned.maps[name][i]), name
        vectors = rotate90(still.maps["normal"][i : i + 1], turns=options[0], normal=True)
        torch.testing.assert_close(vectors, turned.maps["normal"][i : i + 1])
    assert seen == {0, 1, 2, 3}


@given(seed=st.integers(0, 2**40), tileable=st.booleans())
@settings(max_examples=30)
def test_augmenting_then_deriving_the_normal_equals_deriving_then_augmenting(seed, tileable):
    """Compares the maps as stored integers, for all flips and rotations."""
    heights = torch.cat([smooth_height(seed + i) for i in range(8)])
    stored = ((heights - heights.min()) / (heights.max() - heights.min()) * 65535).round()
    normal = normal_from_height(stored / 65535, scale_px=12.0, tileable=tileable)
    raw = replace(
        raw_batch(8, size=32, names=("height", "normal")), seeds=torch.arange(8, dtype=torch.int64) + seed
    )
    raw.maps["height"] = stored.to(torch.uint16)
    raw.maps["normal"] = ((normal * 0.5 + 0.5) * 255.0).round().to(torch.uint8)
    batch = augment(raw, AugmentSpec(flip=True, rotate90=True), device="cpu")
    derived = normal_from_height(batch.maps["height"], scale_px=12.0, tileable=tileable)
    torch.testing.assert_close(batch.maps["normal"], derived, atol=0.012, rtol=0)


def test_flips_alone_never_rotate():
    raw = raw_batch(24)
    flipped = augment(raw, AugmentSpec(flip=True), device="cpu").maps["mask"]
    still = raw.maps["mask"].squeeze(1).long()
    seen = set()
    for i in range(len(raw)):
        pictures = {
            (): still[i],
            (-1,): still[i].flip(-1),
            (-2,): still[i].flip(-2),
            (-1, -2): still[i].flip(-1, -2),
        }
        seen.update(axes for axes, picture in pictures.items() if torch.equal(picture, flipped[i]))
    assert seen == {(), (-1,), (-2,), (-1, -2)}


@pytest.mark.parametrize("preset", ["rev7", "v4"])
def test_sky_photometric_changes_only_the_diffuse_of_old_textures(preset):
    raw = raw_batch(6)
    plain = augment(raw, AugmentSpec(), device="cpu")
    spec = AugmentSpec(sky_photometric=SkyPhotometricSpec(p=1.0, preset=preset))
    changed = augment(raw, spec, device="cpu")
    for name in NAMES:
        same = [torch.equal(a, b) for a, b in zip(plain.maps[name], changed.maps[name], strict=True)]
        expected = [name != "diffuse" or not own for own in raw.present["diffuse"].tolist()]
        assert same == expected, name


def test_sky_photometric_has_its_probability():
    raw = raw_batch(200, size=2)
    plain = augment(raw, AugmentSpec(), device="cpu").maps["diffuse"]
    spec = AugmentSpec(sky_photometric=SkyPhotometricSpec(p=0.3))
    changed = (augment(raw, spec, device="cpu").maps["diffuse"] != plain).flatten(1).any(dim=1)
    assert float(changed[raw.present["diffuse"]].float().mean()) == pytest.approx(0.3, abs=0.12)


def test_a_batch_without_old_maps_gets_them_baked():
    raw = raw_batch(3, names=("albedo", "normal", "roughness", "metallic", "ao"))
    batch = augment(raw, AugmentSpec(), device="cpu")
    assert batch.maps["diffuse"].shape == (3, 3, 16, 16) and batch.maps["gloss"].shape == (3, 1, 16, 16)
    assert batch.present["diffuse"].all()


def test_a_sample_of_unknown_roughness_is_not_baked_as_a_mirror():
    raw = raw_batch(40, size=4)
    raw.present["roughness"][:] = False
    raw.maps["roughness"][:] = ROUGHNESS.fill
    own = raw.present["gloss"]
    gloss = augment(raw, AugmentSpec(), device="cpu").maps["gloss"][~own]
    assert float(gloss.mean()) < 0.6


def test_samples_without_an_albedo_are_not_baked():
    raw = raw_batch(2, names=("diffuse", "normal", "mask"))
    batch = augment(raw, EVERYTHING, device="cpu")
    assert set(batch.maps) == {"diffuse", "normal", "mask"}


def test_a_bake_without_its_inputs_names_the_sample_and_the_maps():
    raw = raw_batch(2, names=("diffuse", "albedo", "normal"))
    with pytest.raises(DataError, match=r"material-1: .*roughness, metallic, ao"):
        augment(raw, AugmentSpec(), device="cpu")


def test_ignored_pixels_stay_ignored():
    raw = raw_batch(3)
    raw.maps["mask"].fill_(IGNORE)
    assert augment(raw, EVERYTHING, device="cpu").maps["mask"].unique().tolist() == [IGNORE]


def test_split_gives_consecutive_parts_of_nearly_equal_size():
    parts = raw_batch(7).split(3)
    assert [len(part) for part in parts] == [3, 2, 2]
    assert sum((part.ids for part in parts), ()) == raw_batch(7).ids
    assert [len(part) for part in raw_batch(2).split(3)] == [1, 1, 0]


def test_hashes_depend_on_pixels_names_and_order():
    batch = augment(raw_batch(2), AugmentSpec(), device="cpu")
    pixel = batch.maps["albedo"].clone()
    pixel[0, 0, 0, 0] += 1e-6
    renamed = {("other" if name == "ao" else name): x for name, x in batch.maps.items()}
    variants = [
        batch,
        replace(batch, maps=batch.maps | {"albedo": pixel}),
        replace(batch, maps=renamed),
        replace(batch, ids=batch.ids[::-1]),
    ]
    assert len({tuple(sample_hashes(variant)) for variant in variants}) == len(variants)


def test_a_probability_over_one_is_refused():
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        AugmentSpec.model_validate({"sky_photometric": {"p": 1.5}})

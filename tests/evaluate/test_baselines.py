from dataclasses import replace

import pytest
import torch

from pbrlib.data.shards.reader import ShardSet
from pbrlib.evaluate.baselines import ColourFit, class_baselines, map_baselines, training_statistics
from pbrlib.maps import CLASSES, IGNORE, MAPS, MASK, TARGETS, class_id
from pbrlib.maptargets import ClassTarget, UnitTarget
from tests.evaluate.textures import statistics, texture


def test_baselines_of_every_map_have_their_known_values() -> None:
    one = texture()
    found = map_baselines(one, statistics())
    given = one.given
    assert given.gloss is not None
    assert torch.equal(found["albedo"]["diffuse"], given.diffuse)
    gained = found["albedo"]["diffuse x fitted gain"]
    torch.testing.assert_close(gained[0], given.diffuse[0] * 0.5)
    torch.testing.assert_close(gained[2], (given.diffuse[2] * 2).clamp(max=1))
    torch.testing.assert_close(found["roughness"]["1 - gloss"], 1 - given.gloss)
    by_class = found["roughness"]["mean of the true class"]
    assert by_class[0, 0, 0] == 0.0
    assert by_class[0, 0, -1] == pytest.approx(class_id("metal") / 10)
    assert not found["metallic"]["0"].any()
    assert torch.equal(found["metallic"]["true class is metal"][0].bool(), one.mask == class_id("metal"))
    assert (found["ao"]["1"] == 1).all()
    assert (found["ao"]["training mean"] == 0.75).all()
    torch.testing.assert_close(found["height"]["Poisson"], torch.full((1, 32, 32), 0.5))


def test_every_baseline_that_an_entry_names_is_computed() -> None:
    one = texture()
    found = map_baselines(one, statistics())
    assert {name: tuple(answers) for name, answers in found.items()} == {
        name: target.baselines for name, target in TARGETS.items()
    }
    for name, answers in found.items():
        for answer in answers.values():
            assert answer.shape == (MAPS[name].channels, 32, 32)
    assert isinstance(MASK.target, ClassTarget)
    assert tuple(class_baselines(one, statistics())) == MASK.target.baselines


def test_a_baseline_of_an_unknown_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = UnitTarget(baselines=("a guess",))  # type: ignore[arg-type]
    monkeypatch.setitem(TARGETS, "roughness", unknown)
    with pytest.raises(AssertionError, match="a guess"):
        map_baselines(texture(), statistics())


def test_class_baselines_are_the_majority_and_the_nearest_colour_that_is_known() -> None:
    one = texture()
    red_left = torch.zeros(3, 32, 32)
    red_left[0, :, :16], red_left[2, :, 16:] = 0.9, 0.8
    one = replace(one, given=replace(one.given, diffuse=red_left))
    found = class_baselines(one, statistics())
    assert (found["majority class"] == 5).all()
    nearest = found["nearest class colour"]
    assert (nearest[:, :16] == 0).all()
    assert (nearest[:, 16:] == 1).all()


def test_a_texture_without_gloss_has_no_gloss_baseline() -> None:
    one = texture()
    one = replace(one, given=replace(one.given, gloss=None))
    assert list(map_baselines(one, statistics())["roughness"]) == ["mean of the true class"]


def test_pixels_of_unknown_class_get_the_mean_of_all_classes() -> None:
    one = texture()
    one = replace(one, mask=torch.full_like(one.mask, IGNORE))
    found = map_baselines(one, statistics())["roughness"]["mean of the true class"]
    torch.testing.assert_close(found, torch.full_like(found, 0.3))


def test_the_gain_recovers_what_the_diffuse_was_multiplied_by() -> None:
    fit = ColourFit()
    factors = torch.tensor([0.5, 0.8, 1.0]).view(3, 1, 1)
    for name in "ab":
        one = texture(name)
        fit.add(replace(one, given=replace(one.given, diffuse=one.truth["albedo"] * factors)))
    torch.testing.assert_close(fit.gain, 1 / factors.flatten())


def test_class_colours_are_means_of_their_pixels_and_unknown_classes_have_none() -> None:
    one, fit = texture(), ColourFit()
    fit.add(one)
    torch.testing.assert_close(fit.colours[0], one.given.diffuse[:, :, :16].mean(dim=(1, 2)))
    assert fit.colours[class_id("wood")].isnan().all()


def test_statistics_come_from_the_training_split_alone(shard_set: ShardSet) -> None:
    whole = training_statistics(shard_set)
    train = [row for row in shard_set.rows if row.split == "train"]
    alone = training_statistics(ShardSet(shard_set.location, manifest=shard_set.manifest, rows=tuple(train)))
    assert whole.as_dict() == alone.as_dict()
    wood = [row.means["roughness"][0] for row in train if row.label == "wood"]
    assert whole.class_means["roughness"][class_id("wood")] == pytest.approx(sum(wood) / len(wood))
    assert whole.num_textures == len(train)
    pixels = torch.tensor([row.class_pixels for row in train]).sum(dim=0)
    assert whole.as_dict()["majority_class"] == CLASSES[int(pixels.argmax())]


def test_an_empty_training_split_leaves_the_diffuse_as_it_is(shard_set: ShardSet) -> None:
    val = tuple(row for row in shard_set.rows if row.split == "val")
    found = training_statistics(ShardSet(shard_set.location, manifest=shard_set.manifest, rows=val))
    assert found.gain.tolist() == [1.0, 1.0, 1.0]
    assert found.num_textures == 0

"""The recipe, figure by figure: what `pbr plan configs/rev7/ladder.yaml --json` says against its tables.

The tables are in `recipe.py`; the figures of rules and terms, which stand in code, are at the end.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.config.yamlfile import read_yaml
from pbrlib.curriculum.describe.description import Described, describe
from pbrlib.data.augment import photometric
from pbrlib.data.augment.augmentspec import CategorySpec
from pbrlib.data.draws import balance
from pbrlib.data.shards.index import IndexRow
from pbrlib.losses import base, gradients, masks, perceptual, reprojection
from pbrlib.maps import CLASSES
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from tests.curriculum import recipe
from tests.curriculum.conftest import row

LADDER = Path("configs/rev7/ladder.yaml")

EVERY = [(family, phase) for family, names in recipe.PHASES.items() for phase in names]
every_phase = pytest.mark.parametrize(("family", "phase"), EVERY, ids=[".".join(pair) for pair in EVERY])


@pytest.fixture(scope="module")
def plan() -> Described:
    result = CliRunner().invoke(main, ["plan", str(LADDER), "--json"])
    assert result.exit_code == 0, result.output
    found: Described = json.loads(result.stdout)
    return found


def exactly(value: object) -> object:
    """Equal but for the rounding of products."""
    return pytest.approx(value, rel=1e-12, abs=0.0)


def of(plan: Described, family: str, phase: str) -> Described:
    found: Described = plan["families"][family]["phases"][phase]
    return found


def by_part(phase: Described) -> dict[str, list[Described]]:
    parts: dict[str, list[Described]] = {}
    for group in phase["groups"]:
        for part in group["parts"]:
            parts.setdefault(part, []).append(group)
    return parts


def test_families_come_in_the_order_of_the_recipe(plan: Described) -> None:
    assert plan["waves"] == recipe.WAVES
    assert {name: list(family["phases"]) for name, family in plan["families"].items()} == recipe.PHASES


@pytest.mark.parametrize("family", recipe.PHASES)
def test_networks(plan: Described, family: str) -> None:
    described = plan["families"][family]
    network, task = described["network"], described["task"]
    assert network["inputs"] == recipe.INPUTS[family]
    assert network["outputs"] == recipe.OUTPUTS[family]
    assert list(network["outputs"]) == list(recipe.OUTPUTS[family])
    assert described["frozen_networks"] == recipe.FROZEN_BEFORE[family]
    assert described["batch_scale"] is None
    if family == "segformer":
        assert task["model"]["backbone"] == "b2"
        assert network["parameters"] == pytest.approx(27.4e6, rel=0.005), "the published size of B2"
        assert task["albedo_share"] == 0.5
        assert "merge" not in task
        return
    assert network["condition_channels"] == 512
    model = task["model"]
    assert (model["kind"], model["width"], model["depth"], model["film_dropout"]) == ("unet", 96, 4, 0.1)
    if family == "metallic":
        assert task["initial_share"] == 0.06
        assert task["use_normal"] is False
    assert "use_gloss" not in task


def test_classes_have_their_numbers() -> None:
    assert list(CLASSES) == recipe.CLASS_ORDER


@every_phase
def test_sizes(plan: Described, family: str, phase: str) -> None:
    described = of(plan, family, phase)
    assert (described["crop"], described["batch"], described["epochs"]) == recipe.SIZES[phase]
    assert described["steps_per_epoch"] is None, "an epoch is as many draws as there are textures"
    assert described["grad_clip"] == 1.0
    assert described["plateau"] == 4
    assert described["optimizer"]["kind"] == "adamw"


@every_phase
def test_data_and_donors(plan: Described, family: str, phase: str) -> None:
    described = of(plan, family, phase)
    assert described["data"] == recipe.DATA[phase]
    assert described["starts_from"] == recipe.STARTS_FROM[phase]
    anew = described["drawn_anew"]
    if phase == "M0":
        assert anew["channels"] == [f"classes.{number}" for number in range(7)]
        assert anew["tensors"] == ["head.weight", "head.bias"]
    else:
        assert anew is None


@every_phase
def test_rates(plan: Described, family: str, phase: str) -> None:
    parts = by_part(of(plan, family, phase))
    segformer, unet = (
        {*recipe.SEGFORMER_STAGES, "decoder", "head"},
        {*recipe.UNET_STAGES, "film", "decoder", "head"},
    )
    assert parts.keys() == (segformer if family == "segformer" else unet)
    for part, groups in parts.items():
        if part not in recipe.RATES[phase]:
            assert all(group["frozen"] for group in groups), part
            continue
        for group in groups:
            found = tuple(group["rates"][key] for key in ("first", "peak", "last"))
            assert found == exactly(recipe.RATES[phase][part]), part


@every_phase
def test_layer_decay(plan: Described, family: str, phase: str) -> None:
    parts = by_part(of(plan, family, phase))
    trained = [part for part in sorted(parts) if part.startswith("encoder") and part in recipe.RATES[phase]]
    expected = recipe.LAYER_FACTORS.get(phase, (1.0,) * len(trained))
    assert len(expected) == len(trained)
    for part, factor in zip(trained, expected, strict=True):
        assert [group["layer_factor"] for group in parts[part]] == exactly([factor] * len(parts[part]))
    for part in set(parts) - set(trained):
        assert all(group["layer_factor"] == 1.0 for group in parts[part])


@every_phase
def test_weight_decay(plan: Described, family: str, phase: str) -> None:
    for part, groups in by_part(of(plan, family, phase)).items():
        if part not in recipe.RATES[phase]:
            continue
        decays = {group["weight_decay"] for group in groups}
        assert decays == ({0.0} if part == "film" else {0.01, 0.0}), part


@every_phase
def test_schedule(plan: Described, family: str, phase: str) -> None:
    found = dict(of(plan, family, phase)["schedule"])
    del found["text"]
    assert found == recipe.SCHEDULES[phase]


@every_phase
def test_loss(plan: Described, family: str, phase: str) -> None:
    found = json.loads(json.dumps(of(plan, family, phase)["loss"]["terms"]))
    if "lpips" in found:
        assert found["lpips"].pop("backbone") != "random"
    assert found == recipe.LOSSES[f"{family}.{phase}"]


@every_phase
def test_augmentation(plan: Described, family: str, phase: str) -> None:
    found = dict(of(plan, family, phase)["augment"])
    del found["bake"]
    assert found == recipe.AUGMENT[phase]


@every_phase
def test_balance(plan: Described, family: str, phase: str) -> None:
    found = of(plan, family, phase)["balance"]
    assert found.get("sampler") == (recipe.SAMPLER if phase in recipe.SAMPLED else None)
    assert found.get("minority_tiles") == recipe.MINORITY_TILES[recipe.SIZES[phase][0]]
    assert found.get("mask_dropout") == recipe.MASK_DROPOUT.get(phase)
    assert found["class_weights"] is True
    assert "minority" not in found, "computed from the index"


@every_phase
def test_mosaics(plan: Described, family: str, phase: str) -> None:
    assert of(plan, family, phase)["mosaic"] == recipe.MOSAICS.get(phase)


@every_phase
def test_gates(plan: Described, family: str, phase: str) -> None:
    found, against = of(plan, family, phase)["gate"], recipe.GATED[family].get(phase)
    if against is None:
        assert found is None
    else:
        ratios = {"skyrim": 0.95, "matsynth": 1.10}
        assert found == {"against": against, "ratios": ratios, "window": 3}


@every_phase
def test_selection(plan: Described, family: str, phase: str) -> None:
    metric, mode = ("segmentation/miou", "max") if family == "segformer" else (f"{family}/l1", "min")
    # What trains on Skyrim alone is chosen by Skyrim alone: MatSynth's validation set is the larger one.
    source = "all" if family in ("height", "ao") else "skyrim"
    assert of(plan, family, phase)["select"] == {"metric": f"val/{source}/{metric}", "mode": mode}


@pytest.mark.parametrize("family", recipe.STEPS)
def test_an_epoch_is_as_many_draws_as_textures(family: str) -> None:
    textures, steps = recipe.STEPS[family]
    curriculum = load_curriculum(LADDER.with_name(f"{family}.yaml"))
    rows: list[IndexRow] = [row(f"t{number}") for number in range(textures)]
    skyrim = [IndexRow(**{**vars(one), "source": "skyrim"}) for one in rows]
    phases = describe(curriculum, runtime=RuntimeSpec(), rows=skyrim)["phases"]
    assert {name: phases[name]["steps_per_epoch"] for name in steps} == steps


def test_changes_by_class() -> None:
    spec = CategorySpec.model_validate(read_yaml(LADDER.with_name("category.yaml")))
    assert spec.confidence == 0.8
    figures = {
        name: may.model_dump(exclude_none=True, exclude_defaults=True) for name, may in spec.may.items()
    }
    # The recipe gives no strength for grain, dirt and warp.
    unnamed = ("grain", "dirt", "warp")
    named = {name: {k: v for k, v in own.items() if k not in unnamed} for name, own in figures.items()}
    assert named == {
        "wood": {"brightness": 0.10, "hue": 0.05},
        "stone": {"brightness": 0.08},
        "metal": {"specular": 0.15},
        "fabric": {"hue": 0.12, "saturation": 0.12},
        "leather": {"hue": 0.08, "brightness": 0.12},
        "ground": {"brightness": 0.10},
        "ceramic": {"brightness": 0.10},
    }
    has = {name: [k for k in unnamed if k in own] for name, own in figures.items()}
    assert has == {
        "wood": ["grain"],
        "stone": ["dirt"],
        "metal": [],
        "fabric": ["warp"],
        "leather": [],
        "ground": ["dirt"],
        "ceramic": ["dirt"],
    }


def test_figures_that_are_part_of_a_rule_or_a_term() -> None:
    assert (balance.MINORITY_SHARE, balance.MIN_TILE_PX) == (0.03, 128)
    assert photometric.OCCLUSION_STRENGTH == (0.10, 0.25)
    assert photometric.COLD_RED_GAIN == (0.90, 0.98)
    assert photometric.COLD_BLUE_GAIN == (1.02, 1.10)
    assert photometric.VIGNETTE_EDGE == (0.85, 0.95)
    assert masks.SEAM_PX == 3
    assert gradients.PYRAMID_LEVELS == 4
    assert reprojection.RELIEF_PX == (2.5, 115.0)
    assert base.MIN_POWER_BASE == 1e-6
    assert len(perceptual.SCALE_WEIGHTS) == 5

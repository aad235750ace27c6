"""The smoke ladder has the phases and rules of the recipe: what differs is size, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.config.load import load_ladder
from pbrlib.curriculum.describe.description import Described, describe_ladder
from pbrlib.train.runtimespec import RuntimeSpec

CROPS = {256: 32, 512: 64, 768: 96, 1024: 128}
FASTER = 10.0
"""Rates of the twin over those of the recipe."""


@pytest.fixture(scope="module")
def pair() -> tuple[Described, Described]:
    files = ("configs/rev7/ladder.yaml", "configs/smoke/ladder.yaml")
    recipe, twin = (describe_ladder(load_ladder([Path(file)]), runtime=RuntimeSpec()) for file in files)
    return recipe, twin


def phases(plan: Described) -> dict[str, Described]:
    return {
        f"{name}.{phase}": described
        for name, family in plan["families"].items()
        for phase, described in family["phases"].items()
    }


def rules(phase: Described) -> dict[str, Any]:
    """Return what must be equal in a curriculum and its small twin."""
    schedule = {key: value for key, value in phase["schedule"].items() if key not in ("final", "text")}
    balance = {key: value for key, value in phase["balance"].items() if key != "minority"}
    terms = {name: dict(term) for name, term in phase["loss"]["terms"].items()}
    terms.get("lpips", {}).pop("backbone", None)
    names = ("starts_from", "data", "augment", "mosaic", "select", "plateau", "grad_clip", "drawn_anew")
    gate = phase["gate"] and {**phase["gate"], "ratios": list(phase["gate"]["ratios"])}
    own = {name: phase[name] for name in names}
    return {**own, "schedule": schedule, "balance": balance, "loss": terms, "gate": gate}


def deepest_last(phase: Described) -> dict[str, tuple[Any, ...]]:
    """Return frozen, layer factor and peak rate by part, with encoder stages counted from the deepest."""
    parts = {part: group for group in phase["groups"] for part in group["parts"]}
    deepest = max(int(part.rpartition(".")[2]) for part in parts if part.startswith("encoder"))
    found = {}
    for part, group in parts.items():
        name = f"{int(part.rpartition('.')[2]) - deepest}" if part.startswith("encoder") else part
        rates = group["rates"] or {"first": 0.0, "peak": 0.0, "last": 0.0}
        found[name] = (group["frozen"], group["layer_factor"], *rates.values())
    return found


def test_the_twin_has_the_same_waves_and_phases(pair: tuple[Described, Described]) -> None:
    recipe, twin = pair
    assert recipe["waves"] == twin["waves"]
    assert list(phases(recipe)) == list(phases(twin))


def test_every_phase_of_the_twin_follows_the_rules_of_the_recipe(pair: tuple[Described, Described]) -> None:
    recipe, twin = map(phases, pair)
    for name, phase in recipe.items():
        assert rules(twin[name]) == rules(phase), name
        assert twin[name]["crop"] == CROPS[phase["crop"]], name


def test_rates_of_the_twin_are_those_of_the_recipe_times_ten(pair: tuple[Described, Described]) -> None:
    recipe, twin = map(phases, pair)
    for name, phase in recipe.items():
        ours, theirs = deepest_last(twin[name]), deepest_last(phase)
        # The twin's U-Net is a stage shorter, and SegFormer's has four in both.
        assert ours.keys() <= theirs.keys(), name
        for part, (frozen, factor, *rates) in ours.items():
            assert (frozen, factor) == theirs[part][:2], f"{name} {part}"
            assert rates == pytest.approx([FASTER * rate for rate in theirs[part][2:]]), f"{name} {part}"


def test_the_tasks_of_the_twin_differ_in_size_alone(pair: tuple[Described, Described]) -> None:
    recipe, twin = pair
    for name, family in recipe["families"].items():
        ours, theirs = dict(twin["families"][name]["task"]), dict(family["task"])
        sizes, published = ours.pop("model"), theirs.pop("model")
        assert ours == theirs
        assert sizes["kind"] == published["kind"]
        assert sizes.get("film_dropout") == published.get("film_dropout")
        assert twin["families"][name]["network"]["inputs"] == family["network"]["inputs"]

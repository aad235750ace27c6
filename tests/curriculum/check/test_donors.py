"""A network begins only from one that fits, and that is known before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pbrlib.curriculum.check.curriculum import check
from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.describe.description import describe
from pbrlib.curriculum.describe.tables import render
from pbrlib.curriculum.outside import check_donors
from pbrlib.curriculum.spec import Curriculum
from pbrlib.errors import CheckpointError, ConfigError
from pbrlib.train.runtimespec import RuntimeSpec
from tests.curriculum.conftest import ROUGHNESS, SEGFORMER

ALBEDO = (
    ROUGHNESS.replace("roughness", "albedo")
    .replace(", albedo: albedo.A2", "")
    .replace("    starts_from: albedo.A2\n", "")
    .replace("M0", "A2")
    .replace("{focal_relative_l1: 1.0, ms_ssim: 0.1, sobel: 0.02}", "{l1: 1.0}")
)


def complaint(text: str, **context: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(parse_curriculum(text), place="file.yaml", **context)
    return str(caught.value)


def test_a_map_may_begin_from_the_albedo_net_of_its_size() -> None:
    check(parse_curriculum(ROUGHNESS), place="file.yaml", curricula=[parse_curriculum(ALBEDO)])


@pytest.mark.parametrize("other", ["width: 16", "depth: 3"])
def test_a_donor_of_another_size_in_the_same_command_is_refused(other: str) -> None:
    name, _ = other.split(": ")
    sized = {"width": "width: 8", "depth": "depth: 2"}[name]
    message = complaint(ROUGHNESS, curricula=[parse_curriculum(ALBEDO.replace(sized, other))])
    assert "phases.M0.starts_from: got albedo, whose network has " in message
    assert " differences (" in message
    assert message.startswith("1 mistake")


def test_a_donor_of_another_kind_is_refused() -> None:
    text = ROUGHNESS.replace("starts_from: albedo.A2", "starts_from: segformer.S0")
    message = complaint(text, curricula=[parse_curriculum(SEGFORMER), parse_curriculum(ALBEDO)])
    assert "got a network for segmentation; expected one for roughness" in message


def test_a_trained_donor_that_does_not_fit_is_found_before_anything_starts(
    albedo_curriculum: Curriculum, metallic_curriculum: Curriculum, trained_runs: Path
) -> None:
    def starting(curriculum: Curriculum, width: int, reference: str) -> Curriculum:
        model = curriculum.task.model.model_copy(update={"width": width})
        task = curriculum.task.model_copy(update={"model": model})
        phases = {
            name: phase.model_copy(update={"starts_from": reference})
            for name, phase in curriculum.phases.items()
        }
        return curriculum.model_copy(update={"task": task, "phases": phases})

    check_donors(starting(metallic_curriculum, 8, "albedo"), runs=trained_runs, trained_before=[])
    place = r"metallic: phases\.M0\.starts_from: .*albedo.* which has another architecture \(\d+ differences"
    with pytest.raises(CheckpointError, match=place):
        check_donors(starting(metallic_curriculum, 16, "albedo"), runs=trained_runs, trained_before=[])
    with pytest.raises(CheckpointError, match="got a network for"):
        check_donors(starting(metallic_curriculum, 8, "segformer"), runs=trained_runs, trained_before=[])
    check_donors(
        starting(metallic_curriculum, 16, "albedo"),
        runs=trained_runs,
        trained_before=["albedo", "segformer"],
    )


def test_a_plan_says_what_a_map_does_not_take_from_the_albedo_net() -> None:
    text = ROUGHNESS.replace("kind: roughness,", "kind: roughness, use_gloss: true, gloss_dropout: 0.3,")
    family = [parse_curriculum(ALBEDO), parse_curriculum(text)]
    described = describe(family[1], runtime=RuntimeSpec(), curricula=family)
    anew = described["phases"]["M0"]["drawn_anew"]
    assert anew["channels"] == [*(f"classes.{number}" for number in range(7)), "gloss.0", "gloss.1"]
    assert anew["tensors"] == ["head.weight", "head.bias"]
    console = Console(width=120, highlight=False)
    with console.capture() as capture:
        console.print(render(described))
    assert "input classes, input gloss, head.weight, head.bias" in capture.get()
    assert describe(family[1], runtime=RuntimeSpec())["phases"]["M0"]["drawn_anew"] is None
    within = describe(parse_curriculum(SEGFORMER), runtime=RuntimeSpec(), curricula=family)
    assert within["phases"]["S1"]["drawn_anew"] is None

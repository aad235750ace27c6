from __future__ import annotations

from typing import Any

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.sources import rename_in_metric, rename_sources, require_named, require_sources
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.index import IndexRow
from pbrlib.errors import ConfigError
from tests.curriculum.conftest import SEGFORMER

TWO = (
    SEGFORMER.replace("{generated: 1.0}", "{skyrim: 0.75, matsynth: 0.25}")
    .replace(
        "    starts_from: S0\n",
        "    starts_from: S0\n    gate: {ratios: {skyrim: 0.9, matsynth: 1.1}, window: 1}\n",
    )
    .replace(
        "    crop: 96\n", "    crop: 96\n    mosaic: {sources: [matsynth, skyrim], two: 0.1, four: 0.1}\n"
    )
)


@pytest.fixture
def curriculum() -> Curriculum:
    return parse_curriculum(TWO)


def test_a_source_is_renamed_wherever_a_phase_names_it(curriculum: Curriculum) -> None:
    chosen = curriculum.phases["S1"].select.model_copy(update={"metric": "val/skyrim/segmentation/miou"})
    phases = {**curriculum.phases, "S1": curriculum.phases["S1"].model_copy(update={"select": chosen})}
    found = rename_sources(curriculum.model_copy(update={"phases": phases}), {"skyrim": "materials"})
    phase: Any = found.phases["S1"]
    assert phase.data == {"materials": 0.75, "matsynth": 0.25}
    assert phase.gate.ratios == {"materials": 0.9, "matsynth": 1.1}
    assert phase.mosaic.sources == ("matsynth", "materials")
    assert phase.select.metric == "val/materials/segmentation/miou"
    assert found.phases["S0"].select == curriculum.phases["S0"].select, "val/all stays"


def test_names_that_become_one_share_its_draws_and_the_stricter_ratio_counts(curriculum: Curriculum) -> None:
    phase: Any = rename_sources(curriculum, {"skyrim": "m", "matsynth": "m"}).phases["S1"]
    assert (phase.data, phase.gate.ratios, phase.mosaic.sources) == ({"m": 1.0}, {"m": 0.9}, ("m",))


def test_two_sources_may_change_places_and_no_renaming_changes_nothing(curriculum: Curriculum) -> None:
    swapped = rename_sources(curriculum, {"skyrim": "matsynth", "matsynth": "skyrim"})
    assert swapped.phases["S1"].data == {"matsynth": 0.75, "skyrim": 0.25}
    assert rename_sources(curriculum, {}) is curriculum


def test_only_the_source_of_a_metric_is_renamed() -> None:
    renamed = {"albedo": "x", "skyrim": "y", "all": "z"}
    assert rename_in_metric("val/skyrim/albedo/l1", renamed) == "val/y/albedo/l1"
    assert rename_in_metric("val/albedo/albedo/l1", renamed) == "val/x/albedo/l1"
    assert rename_in_metric("train/skyrim/l1", renamed) == "train/skyrim/l1"


def test_a_name_of_no_curriculum_and_a_source_of_no_data_are_refused(
    curriculum: Curriculum, rows: list[IndexRow]
) -> None:
    require_named([curriculum], {"skyrim": "generated"})
    require_sources({"skyrim": "generated"}, rows)
    with pytest.raises(ConfigError, match=r"--source skyrm=generated.*`skyrim`.*Known: matsynth, skyrim"):
        require_named([curriculum], {"skyrm": "generated"})
    with pytest.raises(ConfigError, match=r"--source skyrim=generatd.*`generated`.*Known: generated"):
        require_sources({"skyrim": "generatd"}, rows)

from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.curriculum.ladder import LadderEntry, in_waves
from pbrlib.curriculum.outside import check_donors
from pbrlib.curriculum.spec import Curriculum
from pbrlib.errors import CheckpointError, ConfigError


def test_curricula_run_after_their_donors(
    segformer_curriculum: Curriculum, albedo_curriculum: Curriculum, metallic_curriculum: Curriculum
) -> None:
    given = [albedo_curriculum, metallic_curriculum, segformer_curriculum]
    ladder = in_waves([LadderEntry(Path(one.name), one) for one in given])
    assert [curriculum.name for curriculum in ladder.curricula] == ["segformer", "albedo", "metallic"]
    assert [len(wave) for wave in ladder.waves] == [1, 1, 1]


def test_a_circle_of_donors_is_refused(
    albedo_curriculum: Curriculum, metallic_curriculum: Curriculum
) -> None:
    waiting = albedo_curriculum.task.model_copy(update={"segformer": "metallic"})
    circle = [albedo_curriculum.model_copy(update={"task": waiting}), metallic_curriculum]
    with pytest.raises(ConfigError, match=r"got albedo, metallic, which depend on each other"):
        in_waves([LadderEntry(Path(one.name), one) for one in circle])


def test_an_untrained_donor_is_found_before_anything_starts(
    albedo_curriculum: Curriculum, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="Train it first"):
        check_donors(albedo_curriculum, runs=tmp_path, trained_before=[])
    check_donors(albedo_curriculum, runs=tmp_path, trained_before=["segformer"])

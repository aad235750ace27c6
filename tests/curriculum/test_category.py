from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pbrlib.curriculum.config.load import dump_yaml, load_curriculum
from pbrlib.curriculum.run import resolve, run_phase
from pbrlib.curriculum.spec import Curriculum, plain
from pbrlib.data.augment.augmentspec import AugmentSpec, CategorySpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import ConfigError
from pbrlib.train.runtime import LocalRuntime
from pbrlib.train.runtimespec import RuntimeSpec


class BuiltError(Exception):
    """Stands for the rest of the phase."""


CATEGORY = {"p": 0.5, "confidence": 0.8, "may": {"metal": {"specular": 0.15}}}


def test_category_changes_survive_the_resolved_file_and_have_addresses(
    metallic_curriculum: Curriculum, tmp_path: Path
) -> None:
    file = tmp_path / "curriculum.yaml"
    phase = metallic_curriculum.phases["M0"].model_copy(
        update={"augment": AugmentSpec.model_validate({"category": CATEGORY})}
    )
    file.write_text(dump_yaml(metallic_curriculum.model_copy(update={"phases": {"M0": phase}})))
    address = "phases.M0.augment.category.may"
    changed = load_curriculum(file, overrides=[f"{address}.metal.specular=0.2", f"{address}.wood.hue=0.04"])
    category = changed.phases["M0"].augment.category
    assert category is not None
    assert plain(category.may) == {"metal": {"specular": 0.2}, "wood": {"hue": 0.04}}
    with pytest.raises(ConfigError, match=r"may\.stone\.hue: got 0\.1; expected no hue for stone\. Remove"):
        load_curriculum(file, overrides=[f"{address}.stone.hue=0.1"])


def test_the_category_changes_of_a_phase_reach_its_task(
    metallic_curriculum: Curriculum,
    shard_set: ShardSet,
    trained_runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    category = CategorySpec.model_validate(CATEGORY)
    phase = metallic_curriculum.phases["M0"].model_copy(update={"augment": AugmentSpec(category=category)})
    curriculum = metallic_curriculum.model_copy(update={"phases": {"M0": phase}})
    given: dict[str, Any] = {}

    def build_task(*_: object, **arguments: Any) -> None:
        given.update(arguments)
        raise BuiltError

    monkeypatch.setattr("pbrlib.curriculum.run.build_task", build_task)
    job = resolve(curriculum, "M0", shards=shard_set, runs=trained_runs, runtime=RuntimeSpec(workers=1))
    with pytest.raises(BuiltError):
        run_phase(job, LocalRuntime(shard_set, tmp_path, phase.select, torch.device("cpu")))
    assert given["category"] == category

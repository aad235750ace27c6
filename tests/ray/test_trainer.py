from __future__ import annotations

import pytest

from ray_jobs.fit.trainer import Trainer


@pytest.mark.parametrize(("environment", "cleaners"), [({"PBR_LOCAL_CLUSTER": "1"}, 0), ({}, 1)])
def test_only_a_cluster_that_outlives_the_command_has_its_places_cleaned(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], cleaners: int
) -> None:
    monkeypatch.delenv("PBR_LOCAL_CLUSTER", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    callbacks = Trainer(lambda: None)._create_default_callbacks()
    names = [type(one).__name__ for one in callbacks]
    assert names.count("PlacementGroupCleanerCallback") == cleaners
    assert "DatasetsCallback" in names

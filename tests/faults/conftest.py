"""Faults on real Ray: every test has a limit, and a cluster of its own where it breaks one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.spec import Curriculum
from pbrlib.train.runs import RunDirectory
from tests.faults.cluster import Cluster
from tests.faults.training import Training

TIMEOUT_S = 420

Begin = Callable[..., Training]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray hangs rather than raises."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ray)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
def training_of(
    tmp_path: Path, shard_folder: Path, trained_runs: Path, albedo_curriculum: Curriculum
) -> Begin:
    """Makes a training below the test's folder, by a name."""

    def make(name: str, **options: Any) -> Training:
        return Training(
            tmp_path / name,
            curriculum=albedo_curriculum,
            shards=shard_folder,
            segformer=RunDirectory(trained_runs, name="segformer").best()[0],
            **options,
        )

    return make

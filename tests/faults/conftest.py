"""Faults on real Ray: every test has a limit, and a cluster of its own where it breaks one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.load import parse_curriculum
from pbrlib.train.runs import RunDirectory
from tests.conftest import ALBEDO
from tests.faults.cluster import Cluster
from tests.faults.training import Outcome, Training

TIMEOUT_S = 420
WORKERS, SEGMENT, STEPS = 2, 15, 90

Begin = Callable[..., Training]
MADE: list[Training] = []


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


@pytest.fixture(scope="session")
def training_in(shard_folder: Path, trained_runs: Path) -> Begin:
    """Makes a training of ``STEPS`` steps in a folder."""
    segformer = RunDirectory(trained_runs, name="segformer").best()[0]

    def make(folder: Path, **options: Any) -> Training:
        given = {"steps": STEPS, "segment": SEGMENT, "runtime": {"workers": WORKERS}, "shards": shard_folder}
        curriculum = parse_curriculum(ALBEDO)
        training = Training(folder, curriculum=curriculum, segformer=segformer, **(given | options))
        MADE.append(training)
        return training

    return make


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test that fails must not spoil those after it."""
    yield
    while MADE:
        MADE.pop().stop()


@pytest.fixture(scope="session")
def undisturbed(training_in: Begin, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What a training leaves that nothing happens to."""
    training = training_in(tmp_path_factory.mktemp("undisturbed"))
    outcome = training.outcome(training.finish(training.start()))
    assert sorted(outcome.batches) == list(range(STEPS))
    return outcome

"""Faults on real Ray: every test has a limit, and a cluster of its own where it breaks one."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.train.record.rundirectory import RunDirectory
from tests.conftest import ALBEDO, S3_CREDENTIALS, generated_shards
from tests.faults.cluster import Cluster
from tests.faults.training import Outcome, Training
from tests.s3_server import FaultyServer

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
    """A head alone, for a test that adds nodes and loses some."""
    with Cluster() as running:
        yield running


@pytest.fixture(scope="package")
def kept_cluster(s3: FaultyServer) -> Iterator[Cluster]:
    """A node for each worker and one to spare; its processes know the S3 server of the tests."""
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"AWS_ENDPOINT_URL": s3.url, **S3_CREDENTIALS}.items():
                patch.setenv(name, value)
            cluster = running.enter_context(Cluster())
        cluster.add_nodes(WORKERS + 1)
        yield cluster


@pytest.fixture
def shared_cluster(kept_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster for tests that lose no node; the processes of each test end before the next one."""
    yield kept_cluster
    stop_trainings()
    kept_cluster.wait_until_idle()


@pytest.fixture
def chance() -> random.Random:
    """Chooses steps and victims; it prints its seed, which ``PBR_FAULTS_SEED`` sets."""
    seed = int(os.environ.get("PBR_FAULTS_SEED") or secrets.randbelow(2**32))
    print(f"PBR_FAULTS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def training_in(shard_folder: Path, trained_runs: Path) -> Begin:
    """Makes a training of ``STEPS`` steps in a folder."""
    segformer = RunDirectory(trained_runs, name="segformer").best()[0]

    def make(folder: Path, *, cluster: Cluster | None = None, **options: Any) -> Training:
        given = {"steps": STEPS, "segment": SEGMENT, "runtime": {"workers": WORKERS}, "shards": shard_folder}
        curriculum = parse_curriculum(ALBEDO)
        training = Training(
            folder, curriculum=curriculum, segformer=segformer, cluster=cluster, **(given | options)
        )
        MADE.append(training)
        return training

    return make


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """A test that fails must not spoil those after it."""
    yield
    stop_trainings()


def stop_trainings() -> None:
    """Ends the commands that still run."""
    while MADE:
        MADE.pop().stop()


@pytest.fixture(scope="session")
def undisturbed(training_in: Begin, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The result of an undisturbed training."""
    training = training_in(tmp_path_factory.mktemp("undisturbed"))
    outcome = training.outcome(training.finish(training.start()))
    assert sorted(outcome.batches) == list(range(STEPS))
    return outcome


@pytest.fixture(scope="session")
def long_training_in(training_in: Begin, tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """Makes trainings whose data tasks run all the while.

    Ten megabytes a task, of which the nodes' object stores hold a part: the others come as steps are done.
    """
    shards = generated_shards(tmp_path_factory.mktemp("large") / "shards", size=256)
    return partial(training_in, steps=400, segment=100, shards=shards)


@pytest.fixture(scope="session")
def long_undisturbed(long_training_in: Begin, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The result of such a training without a fault."""
    training = long_training_in(tmp_path_factory.mktemp("long_undisturbed"))
    return training.outcome(training.finish(training.start()))

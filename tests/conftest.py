"""Fixtures for many tests: a small real shard set, tiny curricula, torch on one thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.prepare import with_relief
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.train.runtimespec import RuntimeSpec
from tests.scheduling import RAY, OneRay

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.s3_server import FaultyServer

# How long an example takes says how busy the machine is, nothing of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

NUM_CPUS = 4
"""Logical CPUs of the Ray that tests share."""

RAY_TIMEOUT_S = 180

SEGFORMER = """
name: segformer
task:
  kind: segmentation
  model: {kind: segformer, backbone: custom, hidden_sizes: [8, 8, 16, 16], depths: [1, 1, 1, 1],
          num_heads: [1, 1, 2, 2], decoder_width: 16}
phases:
  S0:
    epochs: 1
    steps_per_epoch: 2
    crop: 64
    batch: 4
    data: {generated: 1.0}
    augment: {flip: true, rotate90: true}
    optimizer: {lr: 1.0e-3}
    schedule: {kind: constant}
    loss: {cross_entropy: 0.6, focal: {weight: 0.3, gamma: 1.0}, dice: 0.1}
"""

ALBEDO = """
name: albedo
task:
  kind: albedo
  model: {width: 8, depth: 2, film_dropout: 0.0}
phases:
  A1:
    epochs: 2
    steps_per_epoch: 4
    crop: 64
    batch: 6
    data: {generated: 1.0}
    augment: {flip: true, rotate90: true}
    optimizer: {lr: 1.0e-3}
    schedule: {kind: cosine, final: 1.0e-4}
    loss: {l1: 1.0, ms_ssim: 0.15}
"""

S3_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAKEYOFTHETESTS",
    "AWS_SECRET_ACCESS_KEY": "secretOfTheTests",
    "AWS_SESSION_TOKEN": "sessionTokenOfTheTests",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""Recognisable values, to search for in places that must not contain them."""

METALLIC = """
name: metallic
task:
  kind: metallic
  model: {width: 8, depth: 2, film_dropout: 0.0}
phases:
  M0:
    epochs: 1
    steps_per_epoch: 6
    crop: 64
    batch: 5
    data: {generated: 1.0}
    optimizer: {lr: 1.0e-3}
    schedule: {kind: constant}
    loss: {focal_bce: 1.0, focal_tversky: 0.7, sobel: 0.05, l1: 0.05}
"""


def pytest_sessionstart() -> None:
    """Restore the handler of SIGINT, which processes of xdist ignore, since tests send it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests of Ray first, in one process, each with a timeout, since Ray hangs instead of raising."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group(RAY))
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(RAY_TIMEOUT_S))
    items.sort(key=lambda item: not item.get_closest_marker("ray"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneRay:
    """Return the scheduler of ``-n 2``."""
    return OneRay(config, log)


@pytest.fixture(scope="session")
def ray_cluster(s3: FaultyServer) -> Iterator[None]:
    """Start a local Ray once, since a start takes seconds; every ``ray_session`` of a test joins it.

    Its processes know the S3 server of the tests, and ask it three times at most.
    """
    from ray_jobs.cluster.session import ray_session

    with ExitStack() as session:
        with pytest.MonkeyPatch.context() as patch:
            # Gauges reach the metrics endpoint every ten seconds, and fits here are shorter.
            patch.setenv("RAY_metrics_report_interval_ms", "1000")
            environment = {"AWS_ENDPOINT_URL": s3.url, **S3_CREDENTIALS, "AWS_MAX_ATTEMPTS": "3"}
            for name, value in environment.items():
                patch.setenv(name, value)
            session.enter_context(ray_session(num_cpus=NUM_CPUS))
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_folder() -> Iterator[None]:
    """Remove PYTHONSAFEPATH, which a command in this process sets, so that `python -c` finds ``tests``."""
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


@pytest.fixture(scope="session")
def s3() -> Iterator[FaultyServer]:
    """An S3 server on loopback; a test can inject faults."""
    from tests.s3_server import s3_server

    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: FaultyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty bucket; only the environment directs boto3 to the server."""
    import boto3

    for variable, value in {"AWS_ENDPOINT_URL": s3.url, **S3_CREDENTIALS}.items():
        monkeypatch.setenv(variable, value)
    name = tmp_path.name.replace("_", "-").lower()[-40:].strip("-")
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def shard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 generated materials of 128 px, every third one for validation."""
    return generated_shards(tmp_path_factory.mktemp("shards"), size=128)


def generated_shards(root: Path, *, size: int) -> Path:
    """A set of 21 materials in a folder, every third one for validation."""
    source = GeneratedSource(count=21, size=size, seed=3)
    order = {entry.id: number for number, entry in enumerate(source.entries())}
    info, rows = write_shard(
        root / shard_name(version=1, ordinal=0),
        (with_relief(source.load(entry)) for entry in source.entries()),
        split_for=lambda material: "val" if order[material.id] % 3 == 2 else "train",
    )
    publish(root, shards=[info], rows=[rows], previous=None)
    return root


@pytest.fixture(scope="session")
def shard_set(shard_folder: Path) -> ShardSet:
    return ShardSet.open(shard_folder)


@pytest.fixture
def segformer_curriculum() -> Curriculum:
    return parse_curriculum(SEGFORMER)


@pytest.fixture
def albedo_curriculum() -> Curriculum:
    return parse_curriculum(ALBEDO)


@pytest.fixture
def metallic_curriculum() -> Curriculum:
    return parse_curriculum(METALLIC)


@pytest.fixture(scope="session")
def trained_runs(shard_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs directory with a segmentation and an albedo network, trained for a few steps."""
    from pbrlib.curriculum.run import carry_out, launch_local, resolve

    runs = tmp_path_factory.mktemp("runs")
    shards, runtime = ShardSet.open(shard_folder), RuntimeSpec(workers=1)
    for text in (SEGFORMER, ALBEDO):
        curriculum = parse_curriculum(text)
        for phase in curriculum.phases:
            job = resolve(curriculum, phase, shards=shards, runs=runs, runtime=runtime)
            carry_out(job, launch_local)
    return runs

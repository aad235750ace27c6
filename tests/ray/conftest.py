"""One local Ray for all tests that need it: starting one takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ray_jobs.cluster.session import ray_session
from tests.conftest import S3_CREDENTIALS
from tests.s3_server import FaultyServer

NUM_CPUS = 4
TIMEOUT_S = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray hangs rather than raises, so every test that starts it has a limit of its own."""
    for item in items:
        here = Path(__file__).parent in item.path.parents
        if here and item.get_closest_marker("ray") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def ray_cluster(s3: FaultyServer) -> Iterator[None]:
    """A local Ray with four logical CPUs; every ``ray_session`` inside a test joins it.

    Its processes know the S3 server of the tests, and ask it three times at most.
    """
    with ExitStack() as session:
        with pytest.MonkeyPatch.context() as patch:
            # Gauges reach the metrics endpoint every ten seconds, and fits here are shorter.
            patch.setenv("RAY_metrics_report_interval_ms", "1000")
            environment = {"AWS_ENDPOINT_URL": s3.url, **S3_CREDENTIALS, "AWS_MAX_ATTEMPTS": "3"}
            for name, value in environment.items():
                patch.setenv(name, value)
            session.enter_context(ray_session(num_cpus=NUM_CPUS))
        yield

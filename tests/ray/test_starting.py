"""Fits that find no place, and workers that are lost between having one and training."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.train.torch.config import _TorchBackend

from pbrlib import storage
from pbrlib.curriculum.run import PhaseJob
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import OutageError
from pbrlib.train.checkpoint.state import is_complete
from pbrlib.train.record.incidents import INCIDENTS
from ray_jobs.fit import capacity, fit, trainer
from ray_jobs.fit.trainer import ProcessGroupConfig
from tests.conftest import NUM_CPUS
from tests.train.phases import job_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(150)]

# The controller cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def places(shard_set: ShardSet, trained_runs: Path, tmp_path: Path) -> dict[str, Any]:
    return {"shards": shard_set, "donors": trained_runs, "runs": tmp_path}


TOO_MANY = 1 + NUM_CPUS // 2


@pytest.fixture(
    params=[{"workers": TOO_MANY}, {"workers": TOO_MANY + 1, "min_workers": TOO_MANY}],
    ids=["so many", "or fewer"],
)
def without_place(
    request: pytest.FixtureRequest, albedo_curriculum: Curriculum, places: dict[str, Any]
) -> PhaseJob:
    """A worker more than the cluster holds, of two CPUs each."""
    return job_of(albedo_curriculum, "A1", **places, data_cpus=1.0, **request.param)


def test_a_fit_without_a_place_ends_when_its_time_is_over(
    ray_cluster: None, without_place: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "LOCAL_TIMEOUT_S", 3.0)
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "2")
    with pytest.raises(
        OutageError, match=r"got no free resources for 3 workers, each with 2 CPUs; .*`ray status`"
    ):
        fit.launch_for_command(without_place)


def test_ctrl_c_ends_a_fit_that_waits_for_resources(
    ray_cluster: None, without_place: PhaseJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "ABORT_S", 1.0)
    before = signal.getsignal(signal.SIGINT)
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    key = threading.Timer(12.0, press)
    key.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fit.launch_for_command(without_place)
    finally:
        key.cancel()
    assert time.monotonic() - pressed[0] < 30
    assert signal.getsignal(signal.SIGINT) is before


class _DiesOnce(_TorchBackend):
    """End a worker of the first group while the workers join."""

    marker: Path

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        if not self.marker.exists():
            self.marker.touch()
            worker_group.execute_single(0, os._exit, 1)
        super().on_start(worker_group, backend_config)


class DiesOnce(ProcessGroupConfig):
    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _DiesOnce


def test_workers_that_are_lost_before_they_are_joined_leave_their_place_to_the_next(
    ray_cluster: None,
    albedo_curriculum: Curriculum,
    places: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They fill the cluster: a place that was not given back would be missing."""
    monkeypatch.setattr(fit, "ProcessGroupConfig", DiesOnce)
    monkeypatch.setattr(_DiesOnce, "marker", tmp_path / "died", raising=False)
    job = job_of(albedo_curriculum, "A1", **places, workers=2, data_cpus=NUM_CPUS / 2 - 1)
    assert is_complete(fit.launch_on_ray(job))
    (line,) = storage.read_records(job.directory / INCIDENTS)
    assert (line["cause"], line["rank"], line["verdict"]) == ("lost", None, "retried")

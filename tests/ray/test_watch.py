"""A fit can be watched while it runs: Prometheus finds its figures, the dashboard its name."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import ray
from ray.train.v2._internal.state.state_actor import get_state_actor

from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.record.journal import METRICS
from ray_jobs.fit.fit import launch_on_ray
from tests.conftest import ALBEDO
from tests.ray.scrape import Series, scrape, series
from tests.train.phases import job_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

# Every epoch ends with a report, which takes Ray half a second: the gauges of the first are served in time.
LONG = ALBEDO.replace("epochs: 2", "epochs: 7")
TERMS = {"total", "l1", "ms_ssim"}
ALONE = (
    "samples_per_second",
    "step_seconds",
    "input_stall_ratio",
    "checkpoint_seconds",
    "gradient_norm",
    "progress_ratio",
)


class Watcher(threading.Thread):
    """Scrapes the gauges with these labels again and again until it is told to stop."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__(daemon=True)
        self._labels = frozenset(labels.items())
        (node,) = ray.nodes()
        self._port, self._ended = node["MetricsExportPort"], threading.Event()
        self.seen: dict[Series, float] = {}

    def run(self) -> None:
        while not self._ended.wait(0.3):
            self.seen |= self._served()

    def _served(self) -> dict[Series, float]:
        """Return the gauges of the phase; a phase that has just ended has gauges too."""
        return {one: value for one, value in scrape(self._port).items() if self._labels <= one.labels}

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def wait_until_none_is_left(self, *, within_s: float) -> None:
        limit = time.monotonic() + within_s
        while self._served():
            assert time.monotonic() < limit, "gauges of a phase that has ended are still served"
            time.sleep(0.5)


def test_prometheus_finds_the_figures_of_a_live_fit_and_the_dashboard_its_name(
    ray_cluster: None,
    shard_set: ShardSet,
    trained_runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")  # As where there is a dashboard.
    curriculum = parse_curriculum(LONG)
    job = job_of(curriculum, "A1", shards=shard_set, donors=trained_runs, runs=tmp_path)
    own = {"curriculum": "albedo", "phase": "A1", "run": job.fingerprint[:8]}
    watcher = Watcher(own)
    watcher.start()
    best = launch_on_ray(job)
    watcher.stop()

    lines = [json.loads(line) for line in (best.parent / METRICS).read_text().splitlines()]
    metrics = {name.removeprefix("val/") for line in lines for name in line if name.startswith("val/")}
    wanted = {series(f"ray_pbr_{name}", **own) for name in ALONE}
    wanted |= {series("ray_pbr_loss", **own, term=term) for term in TERMS}
    wanted |= {series("ray_pbr_validation", **own, metric=metric) for metric in metrics}
    assert watcher.seen.keys() == wanted, "without a GPU there is no memory of one"

    written = {line[name] for line in lines for name in ("train/loss", "step_s") if name in line}
    assert watcher.seen[series("ray_pbr_loss", **own, term="total")] in written
    assert watcher.seen[series("ray_pbr_step_seconds", **own)] in written
    assert 0 < watcher.seen[series("ray_pbr_progress_ratio", **own)] <= 1
    watcher.wait_until_none_is_left(within_s=60)

    runs = ray.get(get_state_actor().get_train_runs.remote()).values()
    (run,) = [one for one in runs if one.run_settings.run_config.storage_path == str(tmp_path)]
    assert run.name == f"albedo/A1-{job.fingerprint[:8]}" and run.status == "FINISHED"
    shown = run.run_settings.train_loop_config
    assert shown["job"] == run.name
    assert shown["data"] == str(job.data) and shown["segformer"].startswith(str(trained_runs))

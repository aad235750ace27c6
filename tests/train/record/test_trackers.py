"""Tests that MLflow and Weights & Biases get TensorBoard's values once, also after a kill."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from click.testing import CliRunner

from pbrlib.curriculum.run import PhaseJob, carry_out, launch_local
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import ConfigError, OutageError
from pbrlib.train.record import trackers
from pbrlib.train.record.journal import METRICS
from ray_jobs.cli import main
from tests.train.phases import Killed, job_of, kill_at

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

Job = Callable[..., PhaseJob]


@pytest.fixture
def job(shard_set: ShardSet, trained_runs: Path, albedo_curriculum: Curriculum, tmp_path: Path) -> Job:
    """Eight steps, with a checkpoint after four."""

    def resolved(*names: str, runs: str = "runs") -> PhaseJob:
        given = {"shards": shard_set, "donors": trained_runs, "trackers": names}
        return job_of(albedo_curriculum, "A1", runs=tmp_path / runs, **given)

    return resolved


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of MLflow's local store."""
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    yield MlflowClient(address)


def journal_of(job: PhaseJob) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.directory / METRICS).read_text().splitlines()]


def points(store: Any, run: str, name: str) -> dict[int, float]:
    return {one.step: one.value for one in store.get_metric_history(run, name)}


def test_mlflow_has_the_metrics_of_the_journal_and_the_hyperparameters(job: Job, store: Any) -> None:
    phase = job("mlflow")
    carry_out(phase, launch_local)
    experiment = store.get_experiment_by_name("albedo")
    (run,) = store.search_runs([experiment.experiment_id])
    assert run.info.run_name == "albedo/A1" and run.info.status == "FINISHED"
    assert {"phase", "resolution", "model", "mix", "augmentation", "freeze_depth", "optimizer"} <= set(
        run.data.params
    )
    assert run.data.params["resolution"] == "64" and "rate/base" in run.data.params
    lines = journal_of(phase)
    assert {"train/loss", "train/l1", "step_s", "checkpoint_s"} <= run.data.metrics.keys()
    for name in ("train/loss", "val/all/albedo/l1"):
        assert points(store, run.info.run_id, name) == {
            line["step"]: line[name] for line in lines if name in line
        }
    assert not [line for line in lines if line["kind"] == "tracker"]


def is_killed(phase: PhaseJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the sixth step."""
    with monkeypatch.context() as patch:
        kill_at(6, patch)
        with pytest.raises(Killed):
            carry_out(phase, launch_local)


def test_a_killed_phase_continues_its_run_and_another_folder_has_another_run(
    job: Job, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_killed(job("mlflow"), monkeypatch)
    experiment = store.get_experiment_by_name("albedo").experiment_id
    (stopped,) = store.search_runs([experiment])
    assert stopped.info.status == "FAILED"
    carry_out(job("mlflow"), launch_local)
    (run,) = store.search_runs([experiment])
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "FINISHED")
    assert set(points(store, run.info.run_id, "val/all/albedo/l1")) == {4, 8}
    carry_out(job("mlflow", runs="elsewhere"), launch_local)
    assert len(store.search_runs([experiment])) == 2


def test_a_failing_tracking_store_does_not_stop_training_and_is_recorded(
    job: Job, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trackers.MlflowTracker.scalars

    def breaking(self: trackers.MlflowTracker, values: Any, *, step: int) -> None:
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            database.execute("DROP TABLE IF EXISTS metrics")
        whole(self, values, step=step)

    monkeypatch.setattr(trackers.MlflowTracker, "scalars", breaking)
    phase = job("mlflow")
    assert carry_out(phase, launch_local).step in (4, 8)
    (line,) = [line for line in journal_of(phase) if line["kind"] == "tracker"]
    assert "entries did not arrive" in line["complaint"]
    output = CliRunner().invoke(main, ["runs", "show", str(phase.run_directory.path)]).output
    assert f"A1: {line['complaint']}" in output


def test_mlflow_without_a_valid_address_is_an_error_before_the_first_step(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="got mlflow without MLFLOW_TRACKING_URI; expected an address"):
        carry_out(job("mlflow"), launch_local)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    with pytest.raises(ConfigError, match=r"rejects the run .*Correct the address"):
        carry_out(job("mlflow"), launch_local)
    assert not (job("mlflow").directory / METRICS).exists()


def test_an_unavailable_server_of_a_resumed_phase_is_an_outage(
    job: Job, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_killed(job("mlflow"), monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    with pytest.raises(OutageError, match="rejects the run"):
        carry_out(job("mlflow"), launch_local)


def test_the_wait_for_wandb_is_limited(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Run:
        def finish(self, exit_code: int) -> None:
            raise TimeoutError

    def init(**given: Any) -> Run:
        asked.update(given)
        return Run()

    monkeypatch.setattr(wandb, "init", init)
    tracked = trackers.Tracked("albedo", "A1", "0", job("wandb").directory, {})
    assert "`wandb sync`" in (trackers.WandbTracker(tracked).close(failed=False) or "")
    settings = asked["settings"]
    assert settings.finish_timeout > 0 and settings.finish_timeout_raises


def written_offline(job: PhaseJob) -> list[bytes]:
    """Return wandb's records of every attempt below the phase: protocol buffers with JSON values."""
    return [file.read_bytes() for file in sorted(job.directory.rglob("run-*.wandb"))]


def test_wandb_offline_has_the_metrics_of_the_journal_and_a_killed_phase_keeps_its_id(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    phase = job("wandb")
    is_killed(phase, monkeypatch)
    carry_out(phase, launch_local)
    first, second = written_offline(phase)
    lines = journal_of(phase)
    for name in ("train/loss", "val/all/albedo/l1"):
        for line in (line for line in lines if name in line):
            assert name.encode() in first and name.encode() in second
            assert json.dumps(line[name]).encode() in (first if line["step"] <= 4 else second)
    assert b"freeze_depth" in first and b"albedo/A1" in first
    (one,) = {file.name for file in phase.directory.rglob("run-*.wandb")}
    assert one == f"run-{trackers.identity(phase.fingerprint, phase.directory)}.wandb"


def test_wandb_without_a_key_is_an_error_before_the_first_step(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()  # It reads its environment once a process.
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match=r"wandb rejects the run .*WANDB_MODE=offline"):
        carry_out(job("wandb"), launch_local)
    assert not (job("wandb").directory / METRICS).exists()


def test_a_tracker_that_is_not_installed_names_its_extra(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"mlflow, wandb not installed. Run pip install 'pbrlib\[mlflow,wandb\]'"
    ):
        trackers.require(("mlflow", "wandb"))
    trackers.require(())

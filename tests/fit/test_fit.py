"""A command after Ray's controller has ended a fit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions as lost
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from pbrlib.curriculum.run import PhaseJob
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.reader import ShardSet
from pbrlib.errors import OutageError, RepeatedError
from pbrlib.train.record.incidents import INCIDENTS
from ray_jobs.fit import failures, fit
from ray_jobs.fit.failures import WorkerFailedError, rank_failure
from tests.train.phases import job_of


@pytest.fixture
def job(segformer_curriculum: Curriculum, shard_set: ShardSet, tmp_path: Path) -> PhaseJob:
    (phase, *_) = segformer_curriculum.phases
    return job_of(
        segformer_curriculum, phase, shards=shard_set, donors=tmp_path, runs=tmp_path, max_failures=2
    )


@pytest.fixture
def budgets() -> list[int]:
    """Return the retries that each fit was given."""
    return []


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch, budgets: list[int]) -> list[Any]:
    """Set how the next fits of Ray end: with an error, or with their best checkpoint."""
    ends: list[Any] = []

    class Trainer:
        def fit(self) -> Any:
            end = ends.pop(0)
            if isinstance(end, Exception):
                raise end
            monkeypatch.setattr(fit, "best_checkpoint_of", lambda job: end)

    def trainer(job: PhaseJob, *, max_failures: int, **given: Any) -> Trainer:
        budgets.append(max_failures)
        return Trainer()

    monkeypatch.setattr(fit, "_trainer", trainer)
    monkeypatch.setattr(fit, "start_watch", lambda runtime, current: None)
    return ends


def out_of_memory(pid: int) -> ControllerError:
    """Return the error for a worker that the memory monitor kills during the setup of its process group."""
    return ControllerError(
        lost.OutOfMemoryError(f"1 worker(s) were killed, pid {pid}: running low on memory")
    )


def verdicts(job: PhaseJob) -> list[tuple[str, str]]:
    lines = map(json.loads, (job.directory / INCIDENTS).read_text().splitlines())
    return [(line["cause"], line["verdict"]) for line in lines]


def test_a_worker_that_the_memory_monitor_ends_in_its_start_costs_a_retry(
    job: PhaseJob, fits: list[Any], tmp_path: Path
) -> None:
    fits += [out_of_memory(1), tmp_path / "best"]
    assert fit.launch_on_ray(job) == tmp_path / "best"
    assert verdicts(job) == [("host memory", "retried")]


def test_memory_that_runs_out_in_two_starts_stops_with_its_remedy(job: PhaseJob, fits: list[Any]) -> None:
    fits += [out_of_memory(1), out_of_memory(2)]
    with pytest.raises(RepeatedError, match="use nodes with more memory"):
        fit.launch_on_ray(job)
    assert [verdict for _, verdict in verdicts(job)] == ["retried", "stops: it would repeat"]


def test_memory_that_runs_out_after_another_checkpoint_is_another_failure(
    job: PhaseJob, fits: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = iter([0, 40])
    monkeypatch.setattr(failures, "newest_step", lambda directory: next(committed))
    fits += [out_of_memory(1), out_of_memory(2), tmp_path / "best"]
    assert fit.launch_on_ray(job) == tmp_path / "best"


def test_the_last_start_that_memory_ends_is_written_down_too(
    job: PhaseJob, fits: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = iter([0, 40, 80])
    monkeypatch.setattr(failures, "newest_step", lambda directory: next(committed))
    fits += [out_of_memory(1), out_of_memory(2), out_of_memory(3)]
    with pytest.raises(OutageError, match=r"max_failures is 2.*The same command resumes"):
        fit.launch_for_command(job)
    assert [verdict for _, verdict in verdicts(job)] == ["retried", "retried", "stops: max_failures is 2"]


@pytest.mark.parametrize(
    "error",
    [
        lost.RayActorError(error_msg="The actor died unexpectedly."),
        RuntimeError("[1] connection closed by peer"),
        TimeoutError("no answer from the rendezvous"),
    ],
    ids=["lost", "peer", "outage"],
)
def test_a_group_of_workers_that_does_not_come_together_is_started_again(
    error: Exception, job: PhaseJob, fits: list[Any], tmp_path: Path
) -> None:
    fits += [ControllerError(error), ControllerError(error), tmp_path / "best"]
    assert fit.launch_on_ray(job) == tmp_path / "best"
    assert [verdict for _, verdict in verdicts(job)] == ["retried", "retried"]


def test_a_start_in_which_a_worker_dies_ends_its_fit_and_counts_as_a_retry(
    job: PhaseJob, fits: list[Any]
) -> None:
    died = rank_failure(lost.RayActorError(error_msg="The actor died unexpectedly."))
    in_the_command = pickle.loads(pickle.dumps(ControllerError(WorkerFailedError(died, began=0.0))))

    fits += [in_the_command, in_the_command, in_the_command, "never"]
    with pytest.raises(OutageError, match=r"max_failures is 2.*died unexpectedly\. The same command resumes"):
        fit.launch_for_command(job)
    assert verdicts(job) == [*2 * [("lost", "retried")], ("lost", "stops: max_failures is 2")]
    assert fits == ["never"]


def test_a_cluster_without_a_place_is_a_message(job: PhaseJob, fits: list[Any]) -> None:
    fits += [ControllerError(OutageError("A1: the cluster had no place for a worker.")), "never"]
    with pytest.raises(OutageError, match="no place for a worker"):
        fit.launch_for_command(job)
    assert fits == ["never"]


def test_what_failed_starts_have_spent_the_next_fit_has_no_more(
    job: PhaseJob, fits: list[Any], budgets: list[int], tmp_path: Path
) -> None:
    gone = ControllerError(lost.RayActorError(error_msg="The actor died unexpectedly."))
    fits += [gone, gone, tmp_path / "best"]
    fit.launch_on_ray(job)
    assert budgets == [2, 1, 0]


def test_a_node_that_is_taken_away_in_a_start_costs_no_retry(
    job: PhaseJob, fits: list[Any], budgets: list[int], tmp_path: Path
) -> None:
    taken = rank_failure(lost.RayActorError(error_msg="The node was preempted.", preempted=True))
    fits += [*5 * [ControllerError(WorkerFailedError(taken, began=0.0))], tmp_path / "best"]
    fit.launch_on_ray(job)
    assert budgets == [2] * 6


def test_a_lost_controller_is_written_down(job: PhaseJob, fits: list[Any]) -> None:
    fits.append(lost.RayActorError(error_msg="The actor died unexpectedly."))
    with pytest.raises(
        fit.LostControllerError, match=r"the process that leads the fit was lost.*The same command resumes"
    ):
        fit.launch_for_command(job)
    assert verdicts(job) == [("lost", "the command ends")]


def test_other_errors_of_the_controller_are_not_tried_again(job: PhaseJob, fits: list[Any]) -> None:
    fits += [ControllerError(ValueError("no such thing")), "never"]
    with pytest.raises(TrainingFailedError, match="no such thing"):
        fit.launch_on_ray(job)
    assert fits == ["never"]


def test_retries_that_are_spent_on_lost_workers_are_a_message(job: PhaseJob, fits: list[Any]) -> None:
    gone = lost.RayActorError(error_msg="The actor died unexpectedly.")
    fits.append(WorkerGroupError("two workers failed", {0: gone, 1: gone}))
    with pytest.raises(OutageError, match=r"max_failures is 2.*died unexpectedly\. The same command resumes"):
        fit.launch_for_command(job)
    fits.append(WorkerGroupError("a worker failed", {0: gone, 1: KeyError("albedo")}))
    with pytest.raises(WorkerGroupError):
        fit.launch_for_command(job)

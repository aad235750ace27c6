"""Failures that are retried and failures that end a fit, with the errors of Ray's controller."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions as lost
import torch
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from pbrlib.errors import DataError, OutageError, RepeatedError
from pbrlib.storage.s3errors import translated_errors
from pbrlib.train.checkpoint.state import STATE, name_of_checkpoint
from pbrlib.train.record.incidents import INCIDENTS, format_incident
from pbrlib.train.stall import StalledError
from ray_jobs.fit.currentphase import CurrentPhase
from ray_jobs.fit.failures import FailureWatch, failed, pbr_error_in, raise_failure, rank_failure
from ray_jobs.fit.placement import PHASE
from ray_jobs.fit.trainer import ProcessGroupConfig

PEER = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:{}"
CUDA = "CUDA out of memory. Tried to allocate {}.00 GiB. GPU 0 has a total capacity of 139.72 GiB."


class Fit:
    """A controller that is told of failures, one attempt after the other."""

    def __init__(self, directory: Path, *, max_failures: int = 9) -> None:
        self.directory, self.attempts = directory, 0
        self.current = CurrentPhase(directory)
        self.watch = FailureWatch(self.current, max_failures=max_failures)

    def fails(self, errors: Mapping[int, Exception], *, committed: int = 0) -> None:
        folder = self.directory / name_of_checkpoint(committed)
        if committed:
            folder.mkdir(exist_ok=True)
            (folder / STATE).touch()
        self.watch.after_exception(None, errors)

    def reports(self, directory: Path) -> None:
        """Hand the report of a phase to the callbacks, as the controller does."""
        for callback in (self.current, self.watch):
            callback.after_report(None, [{PHASE: str(directory)}], None)

    def worker(self, error: Exception, *, step: int | None, rank: int = 0) -> Exception:
        """The error of a worker, as it arrives from another process."""
        self.attempts += 1
        raised = failed(error, rank=rank, step=step, began=float(self.attempts))
        back: Exception = pickle.loads(pickle.dumps(raised))
        return back

    def stops(self) -> bool:
        try:
            raise_failure(self.directory)
        except RepeatedError:
            return True
        return False

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / INCIDENTS).read_text().splitlines()]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    folder = tmp_path / "A1-0"
    folder.mkdir()
    return Fit(folder)


ACTORS = itertools.count()
"""Ray's errors name the actor, and no two attempts have the same."""


def dead() -> Exception:
    actor = lost.RayActorError(error_msg=f"The actor died unexpectedly.\n\tactor_id: {next(ACTORS):032x}")
    return WorkerHealthCheckFailedError("A worker health check failed.", actor)


def out_of_host_memory() -> Exception:
    # A worker that Ray's memory monitor ends arrives as this, in a health check that has failed.
    gone = lost.OutOfMemoryError(f"Memory on the node was 95% full; actor ID {next(ACTORS):032x}")
    return WorkerHealthCheckFailedError("A worker health check failed.", gone)


def test_the_same_error_at_the_same_step_stops_the_second_time_whatever_its_numbers(fit: Fit) -> None:
    fit.fails({1: fit.worker(ValueError("tensor at 0x7fa2 has 13 rows"), step=12, rank=1)})
    assert not fit.stops()
    fit.fails({0: fit.worker(ValueError("tensor at 0x6bc1 has 14 rows"), step=12, rank=0)})
    with pytest.raises(
        RepeatedError, match=r"phase A1, step 12: ValueError: tensor .* tried again"
    ) as caught:
        raise_failure(fit.directory)
    assert "debug-step" in str(caught.value)


@pytest.mark.parametrize(
    "other", [(ValueError("an index is out of range"), 13), (ValueError("a shape"), 12), (KeyError("an"), 12)]
)
def test_another_error_or_another_step_is_retried(fit: Fit, other: tuple[Exception, int]) -> None:
    fit.fails({0: fit.worker(ValueError("an index is out of range"), step=12)})
    fit.fails({0: fit.worker(other[0], step=other[1])})
    assert not fit.stops()


def test_a_device_without_room_is_retried_once_and_named_with_its_remedy(fit: Fit) -> None:
    fit.fails({1: fit.worker(torch.OutOfMemoryError(CUDA.format(2)), step=40, rank=1)})
    assert not fit.stops()
    fit.fails({0: dead()})
    assert not fit.stops()
    fit.fails({1: fit.worker(torch.OutOfMemoryError(CUDA.format(3)), step=40, rank=1)})
    with pytest.raises(RepeatedError, match=r"step 40: OutOfMemoryError: .*batch_per_device.*bf16.*crop"):
        raise_failure(fit.directory)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when",
    ],
)
def test_a_library_of_cuda_without_room_is_a_device_without_room(fit: Fit, words: str) -> None:
    fit.fails({0: fit.worker(RuntimeError(words), step=40)})
    assert fit.lines()[-1]["cause"] == "device memory"


def test_a_node_that_is_taken_away_costs_none_of_the_retries(tmp_path: Path) -> None:
    fit = Fit(tmp_path, max_failures=0)
    gone = lost.RayActorError(error_msg=f"Its node is gone; actor {next(ACTORS):032x}", preempted=True)
    fit.fails(
        {0: WorkerHealthCheckFailedError("failed", gone), 1: fit.worker(RuntimeError(PEER.format(1)), step=9)}
    )
    fit.fails({0: dead()})
    assert [line["verdict"] for line in fit.lines()] == ["retried", "stops: max_failures is 0"]


def test_a_node_without_memory_is_retried_once_between_two_checkpoints(fit: Fit) -> None:
    fit.fails({1: out_of_host_memory(), 0: fit.worker(RuntimeError(PEER.format(1)), step=9)}, committed=8)
    assert not fit.stops()
    fit.fails({0: out_of_host_memory(), 1: fit.worker(RuntimeError(PEER.format(2)), step=17)}, committed=16)
    assert not fit.stops(), "it got past the next checkpoint"
    fit.fails({0: fit.worker(MemoryError("no room"), step=21)}, committed=16)
    with pytest.raises(RepeatedError, match=r"data_cpus.*prefetch"):
        raise_failure(fit.directory)


def test_what_a_retry_can_cure_never_stops_a_phase(fit: Fit) -> None:
    for number in range(5):
        fit.fails({1: dead(), 0: fit.worker(RuntimeError(PEER.format(number)), step=12)})
        fit.fails({0: fit.worker(RuntimeError(PEER.format(number)), step=12)})
        fit.fails({0: fit.worker(OutageError("s3://b/k: S3 answers: SlowDown"), step=12)})
        fit.fails({0: fit.worker(ConnectionResetError("reset"), step=12)})
        fit.fails({0: fit.worker(lost.ObjectLostError("ab", None, ""), step=12)})
    assert not fit.stops()
    assert [line["cause"] for line in fit.lines()][:5] == ["lost", "peer", "outage", "outage", "outage"]


def test_a_stall_at_the_same_step_stops_the_second_time(fit: Fit) -> None:
    for port in (1, 2):
        stalled = fit.worker(StalledError("no batch for step 12; it waits for x"), step=12)
        fit.fails({0: stalled, 1: fit.worker(RuntimeError(PEER.format(port)), step=12, rank=1)})
    with pytest.raises(RepeatedError, match=r"StalledError.*it waits for x"):
        raise_failure(fit.directory)


def test_a_failure_that_cannot_be_recorded_is_retried_and_reported(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DataError("no space")

    monkeypatch.setattr("ray_jobs.fit.failures.write_failure", full)
    for _ in range(2):
        fit.fails({0: fit.worker(ValueError("a shape"), step=12)})
    assert not fit.stops()
    assert [line["verdict"] for line in fit.lines()] == ["retried", "retried"]


def test_ray_telling_twice_of_one_attempt_is_one_failure(fit: Fit) -> None:
    error = {0: fit.worker(ValueError("once"), step=3)}
    fit.fails(error)
    fit.fails(error)
    assert not fit.stops()
    assert len(fit.lines()) == 1


def test_a_new_command_tries_again(fit: Fit) -> None:
    for _ in range(2):
        fit.fails({0: fit.worker(ValueError("no"), step=3)})
    assert fit.stops()
    (fit.directory / "failure.json").unlink()  # as launch_on_ray does
    again = Fit(fit.directory)
    again.fails({0: again.worker(ValueError("no"), step=3)})
    assert not again.stops()
    assert len(again.lines()) == 3, "the history stays"


def test_an_incident_has_time_place_cause_and_verdict(fit: Fit) -> None:
    for _ in range(2):
        fit.fails({2: fit.worker(ValueError("no\nmore of it"), step=3, rank=2)})
    fit.fails({0: dead()}, committed=2)
    first, second, third = map(format_incident, fit.lines())
    assert first == "step 3, rank 2: ValueError: no; retried"
    assert second == "step 3, rank 2: ValueError: no; stops: it would repeat"
    assert third.startswith("after step 2, rank 0: RayActorError: ")


def test_the_last_of_the_retries_is_reported(tmp_path: Path) -> None:
    fit = Fit(tmp_path, max_failures=1)
    for _ in range(2):
        fit.fails({0: dead()})
    assert [line["verdict"] for line in fit.lines()] == ["retried", "stops: max_failures is 1"]


def test_an_outage_that_outlasts_the_retries_arrives_as_what_it_is() -> None:
    error = failed(OutageError("s3://b/k: S3 answers: SlowDown."), rank=0, step=3, began=0.0)
    found = pbr_error_in(error)
    assert isinstance(found, OutageError)
    assert str(found) == "s3://b/k: S3 answers: SlowDown."


def test_an_error_inside_a_data_task_counts_by_what_it_is() -> None:
    inner = OutageError("s3://b/k: S3 answers: SlowDown.")
    wrapped = lost.RayTaskError("fetch", "Traceback", inner).as_instanceof_cause()
    assert rank_failure(wrapped, rank=1).cause == "outage"
    mistake = lost.RayTaskError("fetch", "Traceback", DataError("bad shard")).as_instanceof_cause()
    assert rank_failure(mistake, rank=1).cause == "mistake"


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SlowDown", 503, OutageError),
        ("InternalError", 500, OutageError),
        ("AccessDenied", 403, DataError),
        ("InvalidAccessKeyId", 403, DataError),
    ],
)
def test_a_busy_s3_is_an_outage_and_a_refusal_is_not(code: str, status: int, kind: type[Exception]) -> None:
    from botocore.exceptions import ClientError

    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(DataError) as caught, translated_errors("s3://b/k"):
        raise ClientError(answer, "GetObject")
    assert type(caught.value) is kind


def test_a_server_out_of_reach_is_an_outage_and_missing_credentials_are_not() -> None:
    from boto3.exceptions import S3UploadFailedError
    from botocore import exceptions as boto

    def upload() -> None:
        answer: Any = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
        try:
            raise boto.ClientError(answer, "PutObject")
        except boto.ClientError as error:
            raise S3UploadFailedError(f"Failed to upload: {error}")  # noqa: B904  # as boto3 does

    for error, kind in (
        (boto.EndpointConnectionError(endpoint_url="http://x"), OutageError),
        (boto.ReadTimeoutError(endpoint_url="http://x"), OutageError),
        (boto.NoCredentialsError(), DataError),
    ):
        with pytest.raises(DataError) as caught, translated_errors("s3://b/k"):
            raise error
        assert type(caught.value) is kind
    with pytest.raises(OutageError), translated_errors("s3://b/k"):
        upload()


@pytest.mark.parametrize(
    "error",
    [
        torch.distributed.DistNetworkError("The server socket has failed to listen: EADDRINUSE"),
        torch.distributed.DistStoreError("Timed out after 901 seconds waiting for clients."),
    ],
)
def test_a_rendezvous_that_fails_is_an_outage(error: Exception) -> None:
    assert rank_failure(error).cause == "outage"


def test_a_worker_without_memory_need_not_leave_its_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ProcessGroupConfig(backend="gloo").backend_cls()
    ends = iter([lost.OutOfMemoryError("1 worker(s) were killed"), ValueError("a bug")])

    def on_shutdown(*given: Any) -> None:
        raise next(ends)

    monkeypatch.setattr(_TorchBackend, "on_shutdown", on_shutdown)
    backend.on_shutdown(None, None)
    with pytest.raises(ValueError, match="a bug"):
        backend.on_shutdown(None, None)

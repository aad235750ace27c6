"""Train a phase as a TorchTrainer fit, which may have trained other phases before."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import ray
import ray.train
import torch
from ray import exceptions as lost
from ray.train import ControllerError, TrainingFailedError, UserCallback, WorkerGroupError

from pbrlib import errors
from pbrlib.curriculum.run import PhaseJob, RankWork, best_checkpoint_of, run_phase
from pbrlib.data.shards.tilecache import TileCache
from pbrlib.data.shards.union import open_data
from pbrlib.train.checkpoint.state import newest_step
from pbrlib.train.failures import primary_failure
from pbrlib.train.fallback import retry_without_damaged
from pbrlib.train.record.incidents import FAILURE, note_incident
from pbrlib.train.record.rundirectory import SNAPSHOT
from ray_jobs.cluster.stopping import stopping_after_checkpoint
from ray_jobs.fit.capacity import scaling_of, start_watch
from ray_jobs.fit.currentphase import CurrentPhase
from ray_jobs.fit.failures import (
    FailureWatch,
    failed,
    message_of,
    pbr_error_in,
    raise_failure,
    rank_failure,
    retries_spent,
    write_failure,
)
from ray_jobs.fit.gauges import PhaseGauges
from ray_jobs.fit.placement import write_placement
from ray_jobs.fit.raystorage import storage_of
from ray_jobs.fit.relayclient import ControllerToRelay, jobs_of
from ray_jobs.fit.runtime import RayRuntime
from ray_jobs.fit.starting import StartStages
from ray_jobs.fit.trainer import ProcessGroupConfig, Trainer
from ray_jobs.rayinternals import FailureConfig, RayTrainCallback

_LOST_IN_START = ("host memory", "lost", "outage", "peer")
"""Causes of a failed start that another start may cure."""


MakeTrainer: TypeAlias = Callable[[Any], Trainer]
"""A function that makes the trainer of a fit, given a relay, or None for a fit of one phase."""

RunFit: TypeAlias = Callable[[PhaseJob, MakeTrainer], None]
"""A function that has a phase trained in a fit; raises the error with which the fit ended."""


class LostControllerError(errors.OutageError):
    """The process that leads a fit is gone: it was ended from outside, or died, or its node was lost."""


def run_alone(job: PhaseJob, make: MakeTrainer) -> None:
    """Train a phase in a fit of its own, in this thread."""
    make(None).fit()


def launch_on_ray(
    job: PhaseJob,
    *,
    callbacks: Sequence[UserCallback] = (),
    work: RankWork = run_phase,
    run: RunFit = run_alone,
) -> Path:
    """Train a phase, ``work`` on every rank, and return its best checkpoint.

    If the nodes could hold its workers but are in use, the fit waits, since other runs and sweeps end.
    ``callbacks`` receive every report. A damaged checkpoint is set aside, and another fit continues from the
    one before. Raises the PbrError of the worker that stopped the phase, and RepeatedError when an attempt
    ended as an earlier one.
    """
    return retry_without_damaged(job.directory, lambda: _fit(job, callbacks=callbacks, work=work, run=run))


def launch_for_command(job: PhaseJob) -> Path:
    """Train a phase in a fit of its own; raises as ``explain_retries`` does."""
    return explain_retries(job, lambda: launch_on_ray(job))


def explain_retries(job: PhaseJob, launch: Callable[[], Path]) -> Path:
    """Launch a phase; raises OutageError if its last retry ended without an error of the program."""
    try:
        return launch()
    except TrainingFailedError as error:
        last = [rank_failure(cause, rank=number) for number, cause in enumerate(causes(error))]
        if not last or any(failure.cause == "error" for failure in last):
            raise
        failure = primary_failure(last)
        raise errors.OutageError(
            f"{job.title}: stopped, since max_failures is {job.runtime.max_failures}. The last attempt ended "
            f"with {failure.error}: {failure.message}. The same command resumes from the last checkpoint."
        ) from error


def _lost(job: PhaseJob, error: BaseException) -> LostControllerError:
    note_incident(
        job.directory,
        "failed",
        committed=newest_step(job.directory),
        cause="lost",
        error=type(error).__name__,
        message=message_of(error),
        verdict="the command ends",
    )
    return LostControllerError(
        f"{job.title}: the process that leads the fit was lost: {message_of(error)}. "
        "The same command resumes from the last checkpoint."
    )


def _fit(job: PhaseJob, *, callbacks: Sequence[UserCallback], work: RankWork, run: RunFit) -> Path:
    """Train a phase in one fit, or several, and return its best checkpoint.

    Ray replaces workers that are lost while they train. If they are lost while they start, or cannot join
    each other, the fit ends, and another fit is made, which counts as a retry.
    """
    job.directory.mkdir(parents=True, exist_ok=True)
    (job.directory / FAILURE).unlink(missing_ok=True)
    # An older version left Ray's list of checkpoints there, and Ray requires each that is on it.
    (job.directory / SNAPSHOT).unlink(missing_ok=True)
    began = time.time()
    current = CurrentPhase(job.directory)
    watch = FailureWatch(current, max_failures=job.runtime.max_failures)

    def make(relay: Any) -> Trainer:
        own = [current, watch, start_watch(job.runtime, current=current), StartStages(current)]
        if relay is not None:
            own.append(ControllerToRelay(relay))
        left = job.runtime.max_failures - watch.counted
        return _trainer(job, callbacks=[*own, *callbacks], work=work, max_failures=left, relay=relay)

    while True:
        try:
            return _one_fit(job, make=make, run=run)
        except WorkerGroupError:
            # Ray counts the failures of all phases of a fit together, and this phase may have retries left.
            spent = retries_spent(job.directory, since=began)
            if spent is None:
                raise
            watch.counted = spent
        except ControllerError as error:
            failure = error.controller_failure
            if rank_failure(failure).cause not in _LOST_IN_START:
                raise
            again = watch.failed_to_start(failure)
            raise_failure(job.directory)
            if not again:
                raise


def _one_fit(job: PhaseJob, *, make: MakeTrainer, run: RunFit) -> Path:
    try:
        with stopping_after_checkpoint(job.directory):
            run(job, make)
    except TrainingFailedError as error:
        raise_failure(job.directory)
        # What kept a worker from leaving word, or the controller from keeping its record, such as S3.
        for cause in causes(error):
            if (mistake := pbr_error_in(cause)) is not None:
                raise mistake from error
        raise
    except (lost.RayActorError, lost.OutOfMemoryError) as error:
        raise _lost(job, error) from error
    raise_failure(job.directory)
    return best_checkpoint_of(job)


def _trainer(
    job: PhaseJob, *, callbacks: Sequence[RayTrainCallback], work: RankWork, max_failures: int, relay: Any
) -> Trainer:
    runtime = job.runtime
    return Trainer(
        train_worker,
        train_loop_config={"job": job, "work": work, "relay": relay, **_about(job)},
        torch_config=ProcessGroupConfig(
            backend="nccl" if runtime.device == "cuda" else "gloo", timeout_s=runtime.collective_timeout_s
        ),
        scaling_config=scaling_of(runtime),
        run_config=ray.train.RunConfig(
            name=job.title,
            callbacks=[*callbacks],  # type: ignore[list-item]
            **storage_of(job.runs),
            # Searches for resources are limited by StartWatch.
            failure_config=FailureConfig(max_failures=max_failures, controller_failure_limit=-1),
        ),
    )


def causes(error: TrainingFailedError) -> list[BaseException]:
    """The errors of the workers or of the controller that ended a fit."""
    match error:
        case WorkerGroupError():
            return [*error.worker_failures.values()]
        case ControllerError():
            return [error.controller_failure]
        case _:
            return []


def _about(job: PhaseJob) -> dict[str, str]:
    """What the dashboard shows of a fit beside its name."""
    begins = {} if job.starts_from is None else {"starts_from": str(job.starts_from)}
    frozen = {field: str(folder) for field, folder in job.frozen.items()}
    names = {"curriculum": job.curriculum.name, "phase": job.phase, "task": job.curriculum.task.kind}
    return {**names, "data": str(job.data), "runs": str(job.runs), **begins, **frozen}


def train_worker(config: Mapping[str, Any]) -> None:
    """Train the job of the configuration on a rank, or those of its relay until one has failed for good."""
    work, relay = config["work"], config["relay"]
    for job in [config["job"]] if relay is None else jobs_of(relay):
        if (job.directory / FAILURE).exists():
            return
        _train(job, work)
        _release_memory()


def _train(job: PhaseJob, work: RankWork) -> None:
    """Train a phase on this rank."""
    began, runtime = time.time(), None
    try:
        cache = None if job.runtime.tile_cache is None else TileCache.of(job.runtime.tile_cache)
        shards = open_data(job.data, cache=cache, on_bad_sample=job.runtime.on_bad_sample)
        gauges = PhaseGauges(curriculum=job.curriculum.name, phase=job.phase, run=job.fingerprint[:8])
        runtime = RayRuntime(
            shards, job.runtime, selection=job.selection, directory=job.directory, gauges=gauges
        )
        runtime.begin()
        if runtime.rank == 0:
            write_placement(job.directory)
        work(job, runtime)
    except Exception as error:
        mistake = pbr_error_in(error)
        if mistake is not None and not isinstance(mistake, errors.OutageError):
            with suppress(errors.DataError):  # a full disk takes no word; the next attempt finds out again
                write_failure(job.directory, mistake)
            raise
        rank = ray.train.get_context().get_world_rank()
        step = None if runtime is None else runtime.step
        raise failed(error, rank=rank, step=step, began=began) from error
    finally:
        if runtime is not None:
            runtime.close()


def _release_memory() -> None:
    """Free what a finished phase has left, and begin a new peak of GPU memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

"""``pbr train``: the phases of one or several curricula in order, each one TorchTrainer fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pbrlib import errors

if TYPE_CHECKING:
    from pbrlib.curriculum.ladder import Family, Ladder
    from pbrlib.curriculum.run import PhaseJob
    from pbrlib.curriculum.spec import Curriculum
    from pbrlib.train.runs import FinishedPhase
    from pbrlib.train.spec import RuntimeSpec

FAILURE = "failure.json"
"""What stopped a phase for good. A worker leaves it before it dies, so that no retry repeats the mistake."""


@click.command("train")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Shard set: a folder or s3:// address.")
@click.option("--runs", required=True, type=click.Path(path_type=Path), help="Directory of all runs.")
@click.option(
    "--runtime",
    "runtime_file",
    type=click.Path(path_type=Path),
    help="Runtime file; default: two CPU workers.",
)
@click.option(
    "--phases", help="A phase or a range, S0..S1, of the curricula that have it; default: all of all."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override any address; of several curricula it begins with the name of one.",
)
@click.option("--address", help="Ray cluster to join; default: RAY_ADDRESS, else a local one.")
@click.option("--local", is_flag=True, help="One process without Ray, for debugging.")
@click.option(
    "--force",
    metavar="REASON",
    help="Go on past gates that phases fail; the reason is recorded beside the figures.",
)
def command(
    files: tuple[Path, ...],
    data: str,
    runs: Path,
    runtime_file: Path | None,
    phases: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    local: bool,
    force: str | None,
) -> None:
    """Train a ladder or curricula into --runs, donors first; the same command resumes what was interrupted.

    FILE is one ladder, or one or several curricula. Exit code 3 when a phase does not pass its gate.
    """
    from pbrlib.curriculum.run import launch_local
    from ray_jobs.progress import Progress

    if force is not None and not force.strip():
        raise errors.ConfigError('--force: no reason came. Write why, as in --force "one texture is broken".')
    work = open_work(
        files, data=data, runs=runs, runtime_file=runtime_file, overrides=overrides, phases=phases
    )
    if local:
        work.train(launch_local, force=force)
        return
    from ray_jobs.session import ray_session

    session = ray_session(address=address, num_cpus=work.logical_cpus, worker_output=work.runtime.ray_logs)
    with session, Progress() as progress:
        work.train(lambda job: launch_on_ray(job, progress), force=force)


class Work:
    """What one ``pbr train`` is to do, checked whole before anything starts."""

    def __init__(
        self,
        ladder: Ladder,
        *,
        data: str,
        runs: Path,
        runtime: RuntimeSpec,
        phases: Mapping[str, Sequence[str]],
    ) -> None:
        self.ladder, self.data, self.runs, self.runtime = ladder, data, runs, runtime
        self.phases = phases

    @property
    def logical_cpus(self) -> int:
        """CPUs that a local Ray needs: those of the workers and of their data streams."""
        import math
        import os

        per_worker = self.runtime.cpus_per_worker + max(self.runtime.data_cpus, 1.0)
        return max(math.ceil(self.runtime.workers * per_worker), len(os.sched_getaffinity(0)), 4)

    def train(self, launch: Any, *, force: str | None = None) -> None:
        """Runs every phase in order with ``launch``; finished ones are named and skipped.

        Raises GateError when a phase does not pass its gate and no reason is given to ``force`` it.
        """
        from pbrlib.curriculum.run import carry_out, resolve
        from pbrlib.data.shards.reader import ShardSet

        def announced(job: PhaseJob) -> Path:
            click.echo(f"{job.curriculum.name}/{job.phase}: training into {job.directory}")
            folder: Path = launch(job)
            return folder

        shards = ShardSet.open(self.data)
        for curriculum in self.ladder.curricula:
            write_resolved(curriculum, self.runs)
            for phase in self.phases[curriculum.name]:
                job = resolve(curriculum, phase, shards=shards, runs=self.runs, runtime=self.runtime)
                known = job.run_directory.finished(phase, fingerprint=job.fingerprint)
                name = f"{curriculum.name}/{phase}"
                done = carry_out(job, announced, force=force)
                metric = curriculum.phases[phase].select.metric
                state = "finished" if known is None else "finished before"
                figures = f"{metric} {done.metrics[metric]:.4f} at step {done.step} ({done.seconds:.0f} s)"
                click.echo(f"{name}: {state}, {figures}{ending(done)}")


def ending(done: FinishedPhase) -> str:
    """What else there is to say of a finished phase: why it ended early, what its gate said."""
    early = f"; ended early at a {done.stopped}" if done.stopped else ""
    if done.gate is None:
        return early
    forced = done.gate["forced"]
    verdict = "passed its gate" if done.gate["passed"] else f"forced past its gate: {forced}"
    return f"{early}; {verdict}"


def open_work(
    files: Sequence[Path],
    *,
    data: str,
    runs: Path,
    runtime_file: Path | None,
    overrides: Sequence[str],
    phases: str | None,
) -> Work:
    """Reads and checks everything; raises with all mistakes before a worker starts."""
    from pbrlib.curriculum.check import check
    from pbrlib.curriculum.check_donors import require_trunks
    from pbrlib.curriculum.ladder import chosen_phases
    from pbrlib.curriculum.load import load_ladder, load_runtime
    from pbrlib.curriculum.mistakes import every
    from pbrlib.curriculum.run import check_donors
    from pbrlib.data.shards.reader import ShardSet
    from pbrlib.train.spec import RuntimeSpec

    runtime = RuntimeSpec() if runtime_file is None else load_runtime(runtime_file)
    whole = load_ladder(files, overrides=overrides)
    chosen = chosen_phases(whole, phases)
    ladder = whole.only(chosen)
    shards = ShardSet.open(data)

    def check_one(family: Family) -> None:
        curriculum, place, running = family.curriculum, str(family.file), chosen[family.curriculum.name]
        check(
            curriculum,
            place=place,
            runtime=runtime,
            rows=shards.rows,
            family=whole.curricula,
            running=running,
        )
        require_trunks(curriculum, place=place, running=running)

    every(check_one, ladder.families)
    before: list[str] = []
    for curriculum in ladder.curricula:
        check_donors(curriculum, runs=runs, trained_before=before)
        before.append(curriculum.name)
    location = data if "://" in data else str(Path(data).resolve())
    return Work(ladder, data=location, runs=runs.resolve(), runtime=runtime, phases=chosen)


def write_resolved(curriculum: Curriculum, runs: Path) -> None:
    """Leaves the resolved curriculum, overrides included, in its run directory."""
    from pbrlib.curriculum.load import dump_yaml
    from pbrlib.train.runs import write_atomically

    write_atomically(runs / curriculum.name / "curriculum.yaml", dump_yaml(curriculum))


def launch_on_ray(job: PhaseJob, progress: Any) -> Path:
    """Trains a phase as one TorchTrainer fit and returns its best checkpoint.

    Raises the worker's PbrError, as the one it was, when that is what stopped it.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    spec, runtime = job.curriculum.phases[job.phase], job.runtime
    job.directory.mkdir(parents=True, exist_ok=True)
    (job.directory / FAILURE).unlink(missing_ok=True)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if runtime.device == "cuda" else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=runtime.workers,
            use_gpu=runtime.device == "cuda",
            resources_per_worker={
                "CPU": runtime.cpus_per_worker,
                **({"GPU": 1} if runtime.device == "cuda" else {}),
            },
        ),
        run_config=ray.train.RunConfig(
            name=job.directory.name,
            storage_path=str(job.run_directory.path),
            failure_config=FailureConfig(max_failures=runtime.max_failures, controller_failure_limit=3),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=2,
                checkpoint_score_attribute=spec.select.metric,
                checkpoint_score_order=spec.select.mode,
            ),
        ),
    )
    try:
        with progress.follow(job.directory, title=f"{job.curriculum.name}/{job.phase}"):
            result = trainer.fit()
    except TrainingFailedError:
        raise_failure(job.directory)
        raise
    raise_failure(job.directory)
    best = result.get_best_checkpoint(spec.select.metric, spec.select.mode)
    assert best is not None
    return Path(best.path)


def train_worker(config: Mapping[str, Any]) -> None:
    """What every rank runs."""
    from pbrlib.curriculum.run import run_phase
    from pbrlib.data.shards.reader import ShardSet
    from pbrlib.train.runs import write_atomically
    from ray_jobs.runtime import RayRuntime

    job: PhaseJob = config["job"]
    if (job.directory / FAILURE).exists():
        return
    try:
        run_phase(job, RayRuntime(ShardSet.open(job.shards), job.runtime))
    except Exception as error:
        if (mistake := pbr_error_in(error)) is not None:
            note = {"kind": type(mistake).__name__, "message": str(mistake)}
            write_atomically(job.directory / FAILURE, json.dumps(note))
        raise


def pbr_error_in(error: BaseException | None) -> errors.PbrError | None:
    """The PbrError that an error is or was caused by; Ray Data wraps those of its tasks."""
    while error is not None:
        if isinstance(error, errors.PbrError) and type(error).__module__ == errors.__name__:
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None


def raise_failure(directory: Path) -> None:
    """Raises the PbrError that a worker left in the phase's folder, if one did."""
    path = directory / FAILURE
    if path.exists():
        note = json.loads(path.read_text())
        kind: type[errors.PbrError] = getattr(errors, note["kind"])
        raise kind(note["message"])

"""``pbr train``: trains a ladder or curricula, several phases at once where the cluster has room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pbrlib import errors, storage
from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from ray_jobs.commands import options

if TYPE_CHECKING:
    from ray_jobs.trainingrequest import TrainingRequest


@click.command("train")
@options.FILES
@options.DATA
@options.SOURCES
@options.RUNS
@options.RUNTIME
@options.PHASES
@options.OVERRIDES
@options.ADDRESS
@click.option("--local", is_flag=True, help="Train in one process without Ray, for debugging.")
@click.option(
    "--profile",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Profile STEPS steps of every phase after its first three; on GPUs, record memory too.",
)
@click.option(
    "--force",
    metavar="REASON",
    help="Continue after a phase that fails its gate; REASON is recorded.",
)
def command(
    files: tuple[Path, ...],
    data: tuple[DataPlace, ...],
    sources: tuple[tuple[str, str], ...],
    runs: Path,
    runtime_file: Path | None,
    phases: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    local: bool,
    profile: int | None,
    force: str | None,
) -> None:
    """Train a ladder or curricula into --runs. Run the same command again to resume.

    FILE is one ladder file, which lists curricula in the order of training, or one or more curriculum files.
    A curriculum is trained after those whose networks it uses. When a ladder is finished, its networks are
    written to RUNS/model and evaluated. Exit code 3 when a phase does not pass its gate.
    """
    from ray_jobs.cluster.machine import check_environment, check_runtime_file

    if not local:
        check_environment()
    storage.check_writable(runs, option="--runs")
    check_runtime_file(runtime_file, address=None if local else address, processes=1 if local else None)
    from ray_jobs.cluster.stopping import handle_sigterm
    from ray_jobs.trainingrequest import open_request

    if force is not None and not force.strip():
        raise errors.ConfigError(
            '--force: got no reason; expected one. Write why: --force "one texture is broken".'
        )
    work = open_request(
        files,
        data=DataSpec.from_options(data, sources),
        runs=runs,
        runtime_file=runtime_file,
        overrides=overrides,
        phases=phases,
    )
    if profile is not None:
        work.runtime = work.runtime.model_copy(update={"profile_steps": profile})
        if work.runtime.device == "cpu":
            click.echo("pbr: --profile writes traces alone: a snapshot of memory is a GPU's.", err=True)
    from ray_jobs.cluster.space import check_space

    check_space(work.ladder, phases=work.phases, runs=work.runs)
    with work.exclusive():
        if local:
            from pbrlib.curriculum.run import launch_local, one_by_one

            with handle_sigterm():
                work.train(one_by_one(launch_local), force=force)
                if work.writes_model:
                    work.release(local=True)
            return
        _train_on_ray(work, address=address, force=force)


def _train_on_ray(work: TrainingRequest, *, address: str | None, force: str | None) -> None:
    from ray_jobs.cluster.session import describe_start, local_cpus, ray_session

    cpus = local_cpus(work.runtime.logical_cpus)
    click.echo(describe_start(address))
    with ray_session(address=address, num_cpus=cpus, worker_output=work.runtime.ray_logs):
        # Ray reads its environment, which the session sets, when it is imported.
        from ray_jobs.fit.capacity import phases_in_cluster
        from ray_jobs.fit.sharedfit import shared_fit

        work.train(
            lambda curriculum: shared_fit(work.phases[curriculum.name]),
            room=lambda: phases_in_cluster(work.runtime),
            force=force,
        )
        if work.writes_model:
            work.release(local=False)

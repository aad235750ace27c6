"""``pbr rehearse``: runs a few steps of every phase and estimates what the training takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from pbrlib.errors import ConfigError
from ray_jobs.commands import options

if TYPE_CHECKING:
    from pbrlib.rehearsal.table import Rehearsal


@click.command("rehearse")
@options.FILES
@options.DATA
@options.SOURCES
@options.RUNS
@options.RUNTIME
@options.PHASES
@options.OVERRIDES
@options.ADDRESS
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write all measurements to FILE as JSON.",
)
@click.option("--keep", is_flag=True, help="Do not delete the rehearsal's temporary folder in --runs.")
def command(
    files: tuple[Path, ...],
    data: tuple[DataPlace, ...],
    sources: tuple[tuple[str, str], ...],
    runs: Path,
    runtime_file: Path | None,
    phases: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    report: Path | None,
    keep: bool,
) -> None:
    """Train three steps of every phase at its real sizes, and estimate the time and memory of the training.

    Each phase is validated, writes a checkpoint and resumes from it, and the next phase starts from it. The
    temporary folder in --runs is deleted at the end. Exit code 2 if a check of the cluster or a phase fails;
    phases that do not depend on it still run.
    """
    from ray_jobs.cluster.machine import check_environment, check_runtime_file
    from ray_jobs.output import check_file, write_file

    check_environment()
    check_runtime_file(runtime_file, address=address)
    if report is not None:
        check_file(report, option="--report")
    from ray_jobs.trainingrequest import open_request

    work = open_request(
        files,
        data=DataSpec.from_options(data, sources),
        runs=runs,
        runtime_file=runtime_file,
        overrides=overrides,
        phases=phases,
    )
    from pbrlib.rehearsal.scratch import scratch_runs
    from ray_jobs.cluster.session import describe_start, local_cpus, ray_session
    from ray_jobs.cluster.stopping import interrupt_advice
    from ray_jobs.rehearsing import rehearse_request

    # With fewer workers each has more to do and to hold: what they can, more can.
    work.runtime = work.runtime.at_fewest()
    cpus = local_cpus(work.runtime.logical_cpus)
    click.echo(describe_start(address))
    left = "what it wrote stays" if keep else "nothing of it stays in --runs"
    # The scratch place goes last: the workers, which Ray ends, write into it.
    with (
        interrupt_advice(lambda: f"{left}; the same command begins anew"),
        scratch_runs(work.runs, keep=keep) as scratch,
        ray_session(address=address, num_cpus=cpus, worker_output=work.runtime.ray_logs),
    ):
        if keep:
            click.echo(f"What the rehearsal leaves: {scratch}")
        rehearsal = rehearse_request(work, scratch=scratch)
    _show(rehearsal)
    if report is not None:
        content = json.dumps(rehearsal.as_data(), indent=1).encode()
        write_file(report, content, place=f"--report {report}")
    if rehearsal.problems:
        raise ConfigError(
            f"the rehearsal failed: {', '.join(rehearsal.problems)}. The table above "
            "says what each of them needs."
        )


def _show(rehearsal: Rehearsal) -> None:
    from pbrlib.rehearsal.table import WIDTH, render
    from ray_jobs.bar import Console

    console = Console(highlight=False, log_width=WIDTH)
    console.print(render(rehearsal))

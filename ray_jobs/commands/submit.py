"""``pbr submit``: a ``pbr`` command as a job of a cluster, followed from here."""

from __future__ import annotations

from pathlib import Path

import click

from pbrlib.errors import ConfigError
from ray_jobs.submission import DASHBOARD


@click.command("submit")
@click.option(
    "--address", help=f"Dashboard of the cluster. Default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, {DASHBOARD}."
)
@click.option(
    "--working-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    help="Folder to upload with the job; .rayignore and .gitignore exclude files. Default: the current one.",
)
@click.option(
    "--follow", "job", metavar="ID", help="Follow a job that was submitted before, instead of submitting one."
)
@click.argument("arguments", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context,
    address: str | None,
    working_dir: Path,
    job: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Run a pbr command on a cluster: pbr submit -- train configs/rev7/ladder.yaml --data s3://... --runs ...

    Prints the job's output and ends with its exit code. Ctrl-C does not stop the job; it prints the command
    to follow it again. Run the same command again to resume the training of a job that was lost.
    """
    if (job is None) == (not arguments):
        raise ConfigError(
            "pbr submit: give a command, as in `pbr submit -- train FILE...`, or --follow ID; one of the two."
        )
    from ray_jobs.submission import check_command, connect, job_metadata, submit

    if job is None:
        subcommand = check_command(arguments, working_dir=working_dir)
        client = connect(address)
        metadata = job_metadata(subcommand, working_dir=working_dir)
        job = submit(client, arguments, working_dir=working_dir, metadata=metadata)
    else:
        client = connect(address)
    from ray_jobs.cluster.jobclient import follow

    context.exit(follow(client, job))

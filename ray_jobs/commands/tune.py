"""``pbr tune``: searches for hyperparameters of a phase, and writes them into a curriculum."""

from __future__ import annotations

from pathlib import Path

import click

from pbrlib import storage
from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from ray_jobs.commands import options
from ray_jobs.commands.paramtypes import LocalPath, YamlFile
from ray_jobs.invocation import refuse_misspelled

_SWEEP = LocalPath(
    file_okay=False,
    why="its study is an SQLite file, which needs a file system. Give a folder that every node sees; "
    "--data and --runs may be on S3.",
)


class _FileOrCommand(click.Group):
    """A group whose first word may be a search file, which is swept, instead of a subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand, or the sweep with all arguments."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        refuse_misspelled(ctx, args[0], self.commands)
        return "sweep", sweep, args

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before the file belong to the sweep as well."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["sweep", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Both ways to use it."""
        formatter.write_usage(ctx.command_path, "FILE --data SHARDS --runs RUNS --out SWEEP [OPTIONS]")
        formatter.write_usage(ctx.command_path, "apply SWEEP --to CURRICULUM [--trial NUMBER]")


@click.group("tune", cls=_FileOrCommand)
def command() -> None:
    """Search for better values of the hyperparameters that FILE lists. Run the same command again to resume.

    pbr tune sweep --help lists the options.
    """


@command.command("sweep")
@click.argument("file", type=YamlFile())
@options.DATA
@options.SOURCES
@options.RUNS
@click.option("--out", required=True, type=_SWEEP, help="Output folder of the sweep.")
@options.RUNTIME
@options.OVERRIDES
@options.ADDRESS
def sweep(
    *,
    file: Path,
    data: tuple[DataPlace, ...],
    sources: tuple[tuple[str, str], ...],
    runs: Path,
    out: Path,
    runtime_file: Path | None,
    overrides: tuple[str, ...],
    address: str | None,
) -> None:
    """Train and rank the trials of the search FILE. Run the same command again to resume.

    Writes report.html, best.yaml, trials.json and study.db, which optuna-dashboard opens, to --out.
    """
    from ray_jobs.cluster.machine import check_environment, check_runtime_file

    check_environment()
    for option, folder in (("--out", out), ("--runs", runs)):
        storage.check_writable(folder, option=option)
    check_runtime_file(runtime_file, address=address)
    from ray_jobs.sweep.sweeprun import begin_sweep, conclude_sweep, open_sweep, train_sweep

    work = open_sweep(
        file,
        data=DataSpec.from_options(data, sources),
        runs=runs,
        out=out,
        runtime_file=runtime_file,
        overrides=overrides,
    )
    with storage.sole_writer(work.out, option="--out"):
        study = begin_sweep(work)
        if len(study.configurations()) < study.spec.size or study.unfinished():
            train_sweep(study, work, address=address)
        conclude_sweep(study, work)


@command.command("apply")
@click.argument("folder", metavar="SWEEP", type=_SWEEP)
@click.option(
    "--to", "file", required=True, type=click.Path(path_type=Path), help="Curriculum file to change."
)
@click.option(
    "--trial", "number", type=int, help="Number of the trial in the table of the sweep. Default: the best."
)
def apply(folder: Path, file: Path, number: int | None) -> None:
    """Write the best values of SWEEP into a curriculum, keep its comments, and note their origin there."""
    from pbrlib.sweep.amend import amend
    from pbrlib.sweep.ranking import chosen, origin, shortened
    from pbrlib.sweep.study import SweepStudy

    study = SweepStudy.open(folder)
    best = chosen(study, number=number)
    if warning := shortened(study, file):
        click.echo(f"Warning: {warning}", err=True)
    changed = amend(file, best.params, origin=origin(study, best, sweep=folder))
    for address, (before, after) in changed.items():
        click.echo(f"{address}: {before} -> {after}")
    click.echo(f"{file}: {len(changed)} of {len(best.params)} addresses changed, from trial {best.number}.")

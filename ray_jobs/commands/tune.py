"""``pbr tune``: sweeps over a curriculum, and what they found written into one."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ray_jobs.commands import options
from ray_jobs.commands.paramtypes import LocalPlace

if TYPE_CHECKING:
    from pbrlib.sweep.study import Configuration, SweepStudy
    from pbrlib.train.runtimespec import RuntimeSpec
    from ray_jobs.sweep.sweepjobs import Sweep

_WIDTH = 140
_SWEEP = LocalPlace(
    file_okay=False,
    why="its study is an SQLite file, which needs a file system. Name a folder that every node sees; "
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
    """Search FILE's addresses of a curriculum for better values; the same command resumes a sweep.

    pbr tune sweep --help lists the options.
    """


@command.command("sweep")
@click.argument("file", type=click.Path(path_type=Path))
@options.DATA
@options.RUNS
@click.option("--out", required=True, type=_SWEEP, help="Folder of the sweep.")
@options.RUNTIME
@options.OVERRIDES
@options.ADDRESS
def sweep(
    *,
    file: Path,
    data: str,
    runs: Path,
    out: Path,
    runtime_file: Path | None,
    overrides: tuple[str, ...],
    address: str | None,
) -> None:
    """Train the trials of the search FILE and rank them; the same command resumes it.

    Leaves report.html, best.yaml, trials.json and study.db, which optuna-dashboard opens, in --out.
    """
    from pbrlib import storage

    work = open_sweep(file, data=data, runs=runs, out=out, runtime_file=runtime_file, overrides=overrides)
    with storage.sole_writer(work.out, option="--out"):
        study = begin(work)
        if len(study.configurations()) < study.spec.size or study.unfinished():
            _train(study, work, address=address)
        conclude(study, work)


@command.command("apply")
@click.argument("folder", metavar="SWEEP", type=_SWEEP)
@click.option("--to", "file", required=True, type=click.Path(path_type=Path), help="The curriculum's file.")
@click.option("--trial", "number", type=int, help="Its number in the table; default: the best.")
def apply(folder: Path, file: Path, number: int | None) -> None:
    """Write what a sweep found into a curriculum, whose comments stay, and say there where it came from."""
    from pbrlib.sweep.amend import amend
    from pbrlib.sweep.ranking import chosen, origin
    from pbrlib.sweep.study import SweepStudy

    study = SweepStudy.open(folder)
    best = chosen(study, number=number)
    changed = amend(file, best.params, origin=origin(study, best, sweep=folder))
    for address, (before, after) in changed.items():
        click.echo(f"{address}: {before} -> {after}")
    click.echo(f"{file}: {len(changed)} of {len(best.params)} addresses changed, from trial {best.number}.")


def open_sweep(
    file: Path, *, data: str, runs: Path, out: Path, runtime_file: Path | None, overrides: Sequence[str]
) -> Sweep:
    """Reads and checks everything; raises with all mistakes before a worker starts."""
    from pbrlib.curriculum.check.donors import require_trunks
    from pbrlib.curriculum.config.load import load_runtime
    from pbrlib.curriculum.run import resolve
    from pbrlib.data.shards.reader import ShardSet
    from pbrlib.sweep.searchfile import check_search, load_search
    from pbrlib.train.record.trackers import require
    from pbrlib.train.runtimespec import RuntimeSpec
    from ray_jobs.sweep.sweepjobs import Sweep

    runtime = RuntimeSpec() if runtime_file is None else load_runtime(runtime_file)
    require(runtime.trackers)
    search = load_search(file, overrides=overrides)
    shards = ShardSet.open(data, on_bad_sample=runtime.on_bad_sample)
    check_search(search, runtime=runtime, rows=shards.rows)
    require_trunks(search.curriculum, place=str(search.curriculum_file), running=[search.spec.phase])
    resolve(search.curriculum, search.spec.phase, shards=shards, runs=runs.resolve(), runtime=runtime)
    location = data if "://" in data else str(Path(data).resolve())
    return Sweep(search, location, runs.resolve(), out.resolve(), runtime)


def begin(work: Sweep) -> SweepStudy:
    """The study of a sweep, a new one or the one that is there."""
    from pbrlib.data.shards.reader import ShardSet
    from pbrlib.sweep.study import SweepStudy

    shards = ShardSet.open(work.shards, on_bad_sample=work.runtime.on_bad_sample)
    about = {"shards": shards.fingerprint, "precision": work.runtime.precision}
    return SweepStudy.begin(work.out, work.search, about=about)


def _train(study: SweepStudy, work: Sweep, *, address: str | None) -> None:
    from ray_jobs.cluster.session import ray_session

    with ray_session(
        address=address, num_cpus=_cpus(work.runtime), dashboard=True, worker_output=work.runtime.ray_logs
    ):
        # Ray reads its environment, which the session sets, when it is imported.
        from ray_jobs.fit.capacity import phases_in_cluster
        from ray_jobs.sweep.trials import run_trials

        room = phases_in_cluster(work.runtime)
        room = min(room, study.spec.limits.parallel or room)
        click.echo(f"{work.title}: {study.spec.size} configurations, {room} at once, into {work.out}")
        run_trials(study, work, room=room, announce=lambda one: click.echo(_line(one, study)))


def _cpus(runtime: RuntimeSpec) -> int:
    """Logical CPUs of a local cluster."""
    from ray_jobs.cluster.session import MIN_LOGICAL_CPUS

    return max(math.ceil(runtime.logical_cpus), len(os.sched_getaffinity(0)), MIN_LOGICAL_CPUS)


def _line(one: Configuration, study: SweepStudy) -> str:
    """What became of a configuration, in a line."""
    values = " ".join(
        f"{sum(found) / len(found):.4g}"
        for place in range(len(study.spec.objectives))
        if (found := one.values(place))
    )
    counted = f" {len(one.outcomes)}/{study.spec.repeats}" if study.spec.repeats > 1 else ""
    said = [f"trial {one.number}{counted}: {one.state}", values, one.reason]
    return ", ".join(part for part in said if part)


def conclude(study: SweepStudy, work: Sweep) -> None:
    """Prints the ranked table and writes the results."""
    from rich.console import Console

    from pbrlib.sweep.ranking import table, title_of
    from pbrlib.sweep.results import write_results

    files = write_results(study, work.search)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    console.print(table(study, title=title_of(work.search)))
    for file in files:
        console.print(f"{file}", soft_wrap=True)
    if study.unfinished() or len(study.configurations()) < study.spec.size:
        console.print("The time of the sweep is over before its end: the same command resumes.")

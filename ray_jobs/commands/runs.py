"""``pbr runs``: lists, shows, compares and prunes runs, without Ray."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ray_jobs.commands.paramtypes import LocalOrS3Path
from ray_jobs.invocation import refuse_misspelled

_FOLDER = LocalOrS3Path()


class _ListByDefault(click.Group):
    """A group in which a directory in place of a command means ``list``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Puts ``list`` before what is none of the commands."""
        if args and self.get_command(ctx, args[0]) is None:
            refuse_misspelled(ctx, args[0], self.commands)
            args = ["list", *args]
        return super().resolve_command(ctx, args)


@click.group("runs", cls=_ListByDefault)
def runs() -> None:
    """List, show, compare and prune runs; `pbr runs RUNS` is `pbr runs list RUNS`.

    RUNS is the directory given to pbr train --runs, a run is RUNS/CURRICULUM in it. Each command accepts
    both, and the folder of a phase.
    """


@runs.command("list")
@click.argument("directory", metavar="RUNS", type=_FOLDER)
def list_runs(directory: Path) -> None:
    """List the runs under RUNS: state, phase, best metric, age."""
    from pbrlib import storage
    from pbrlib.runs.place import locate
    from pbrlib.runs.record import find_runs
    from pbrlib.runs.tables import listing

    with storage.snapshot(directory):
        root = locate(directory).root
        _print(*listing(find_runs(root), root=root, now=time.time()))


@runs.command("show")
@click.argument("run", metavar="RUN", type=_FOLDER)
def show(run: Path) -> None:
    """Show the phases, curves, wall time and files of a run."""
    from pbrlib import storage
    from pbrlib.runs.place import run_at
    from pbrlib.runs.record import Run
    from pbrlib.runs.tables import render_run

    run = run_at(run, usage="pbr runs show")
    with storage.snapshot(run.parent):
        _print(*render_run(Run.open(run), now=time.time()))


def _print(*parts: object) -> None:
    """Into a log as wide as the tables need."""
    from ray_jobs.bar import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str), markup=False)


@runs.command("compare")
@click.argument("first", metavar="A", type=_FOLDER)
@click.argument("second", metavar="B", type=_FOLDER)
@click.option(
    "--out",
    metavar="PNG",
    default=Path("compare.png"),
    show_default=True,
    type=LocalOrS3Path(dir_okay=False),
    help="Output picture.",
)
def compare(first: Path, second: Path, out: Path) -> None:
    """Compare two runs: differences of their curricula, metrics, and pictures side by side."""
    from pbrlib.runs.compare import compared, contact_sheet, pairs
    from pbrlib.runs.place import run_at
    from pbrlib.runs.record import Run
    from ray_jobs.output import check_file, write_file

    check_file(out, option="--out")
    ours, theirs = (Run.open(run_at(one, usage="pbr runs compare")) for one in (first, second))
    found = pairs(ours, theirs)
    _print(*compared(ours, theirs, found=found))
    sheet, remarks = contact_sheet(ours, theirs, found=found)
    _print("", *remarks)
    if sheet is None:
        _print("Pictures: none, neither run has drawn one.")
        return
    write_file(out, sheet, place=f"--out {out}")
    _print(f"Pictures: {out}")


@runs.command("prune")
@click.argument("directory", metavar="RUNS", type=_FOLDER)
@click.option("--delete", is_flag=True, help="Delete them. Default: only list them.")
def prune(directory: Path, delete: bool) -> None:
    """List the checkpoints under RUNS that nothing needs; --delete deletes them.

    The following are kept: the best and the last checkpoint of every phase, checkpoints that another phase
    starts from, phases that train, journals and RUNS/model. Checkpoints of a phase that was changed and
    trained again are deleted. If RUNS is a run or the folder of a phase, only its own checkpoints are listed.
    """
    from pbrlib import storage
    from pbrlib.runs.place import locate
    from pbrlib.runs.prune import delete as delete_checkpoints
    from pbrlib.runs.prune import plan_pruning

    located = locate(directory)
    with storage.snapshot(located.runs):
        # Who builds on a checkpoint stands in all runs of the directory, also where one of them is pruned.
        pruning = plan_pruning(located.runs, now=time.time()).within(
            (located.folder or located.root).resolve()
        )
    for found in pruning.kept:
        _print(f"keep    {_megabytes(found.bytes)}  {found.path}: {found.reason}")
    verb = "delete" if delete else "would delete"
    for found in pruning.removed:
        _print(f"{verb}  {_megabytes(found.bytes)}  {found.path}: {found.reason}")
    if delete:
        delete_checkpoints(pruning)
    verb = "removed" if delete else "would be removed; --delete removes them"
    _print(f"{len(pruning.removed)} checkpoints, {_megabytes(pruning.bytes).strip()}: {verb}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:8.1f} MB"

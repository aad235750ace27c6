"""``pbr debug-step``: replays one training step in one process, without Ray."""

from __future__ import annotations

from pathlib import Path

import click

from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from ray_jobs.commands.paramtypes import DataPlaceParam, LocalOrS3Path

NOT_FINITE = 4
"""The exit code of a step that is not finite: found as asked, neither a mistake nor a success."""


@click.command("debug-step")
@click.argument("run", metavar="RUN", type=LocalOrS3Path())
@click.option("--phase", help="Phase of the run. Default: the one whose loss or gradient was not finite.")
@click.option(
    "--step",
    type=click.IntRange(0),
    help="Step to replay. Default: the one whose loss or gradient was not finite.",
)
@click.option(
    "--data",
    multiple=True,
    type=DataPlaceParam(),
    metavar="[SOURCE=]SHARDS",
    help="Shard set, if it has moved since the run was trained; repeat it for each set of the run.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="Device of the replay. Default: the device of the run.",
)
@click.pass_context
def command(
    context: click.Context,
    run: Path,
    phase: str | None,
    step: int | None,
    data: tuple[DataPlace, ...],
    device: str | None,
) -> None:
    """Replay one training step in one process and show its loss terms, samples, layers and gradients.

    A step whose loss or gradient was not finite is replayed from the state that training saved before it;
    any other step from the newest checkpoint before it, through all steps between. RUN is RUNS/CURRICULUM, or
    the folder of a phase. Exit code 0 when loss and gradient are finite, 4 when not, 2 when the step cannot
    be replayed.
    """
    from pbrlib.runs.place import locate, run_at
    from ray_jobs.bar import Console

    phase = phase or locate(run).phase
    run = run_at(run, usage="pbr debug-step")
    from pbrlib.curriculum.debugstep import ReplayableStep
    from ray_jobs.bar import show_progress
    from ray_jobs.stepview import range_lines, samples_table, start_lines, turn_lines

    moved = DataSpec.from_options(data) if data else None
    asked = ReplayableStep(run, phase=phase, step=step, data=moved, device=device)
    for line in start_lines(asked):
        click.echo(line)
    with show_progress("steps before it") as watch:
        seen = asked.replay(watch=watch)
    console = Console()
    for turn in seen.turns:
        for line in turn_lines(turn):
            click.echo(line)
        if turn.samples:
            console.print(samples_table(turn))
        for line in range_lines(turn):
            click.echo(line)
    context.exit(0 if seen.is_finite else NOT_FINITE)

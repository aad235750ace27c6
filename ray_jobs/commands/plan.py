"""``pbr plan``: check curricula and show what they would train; no Ray, nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from pbrlib.curriculum.check.curriculum import check
from pbrlib.curriculum.config.load import load_ladder, load_runtime
from pbrlib.curriculum.describe.description import describe_ladder
from pbrlib.curriculum.describe.layout import WIDTH
from pbrlib.curriculum.describe.tables import render_ladder
from pbrlib.curriculum.mistakes import every
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.runtimespec import RuntimeSpec


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", metavar="SHARDS", help="A shard set: checks sources and maps, and counts the steps.")
@click.option("--runtime", metavar="FILE", type=click.Path(path_type=Path), help="Workers and devices.")
@click.option("--set", "overrides", metavar="PATH=VALUE", multiple=True, help="Changes one value.")
@click.option("--json", "as_json", is_flag=True, help="Prints the same as JSON.")
def command(
    files: tuple[Path, ...],
    data: str | None,
    runtime: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check a ladder or curricula and show their phases, steps, crops, rates and losses; start nothing.

    FILE is one ladder, or one or several curricula.
    """
    machines = load_runtime(runtime) if runtime is not None else RuntimeSpec()
    rows = ShardSet.open(data).rows if data is not None else None
    ladder = load_ladder(files, overrides=overrides)
    every(
        lambda family: check(
            family.curriculum, place=str(family.file), runtime=machines, rows=rows, family=ladder.curricula
        ),
        ladder.families,
    )
    plan = describe_ladder(ladder, runtime=machines, rows=rows)
    if as_json:
        click.echo(json.dumps(plan, indent=1))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(render_ladder(plan))

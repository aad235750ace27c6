"""``pbr plan``: check curricula and show what they would train; no Ray, nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from pbrlib.curriculum.check import check
from pbrlib.curriculum.describe import describe
from pbrlib.curriculum.load import load_curriculum, load_runtime
from pbrlib.curriculum.mistakes import every
from pbrlib.curriculum.tables import render
from pbrlib.data.shards.reader import ShardSet
from pbrlib.train.spec import RuntimeSpec


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
    """Check curricula and show their phases, steps, crops, rates and losses; start nothing."""
    machines = load_runtime(runtime) if runtime is not None else RuntimeSpec()
    rows = ShardSet.open(data).rows if data is not None else None
    curricula = every(lambda path: load_curriculum(path, overrides=overrides), files)
    every(
        lambda pair: check(pair[1], place=str(pair[0]), runtime=machines, rows=rows, family=curricula),
        list(zip(files, curricula, strict=True)),
    )
    plans = [describe(curriculum, runtime=machines, rows=rows, family=curricula) for curriculum in curricula]
    if as_json:
        click.echo(json.dumps(plans, indent=1))
        return
    console = Console(highlight=False)
    for plan in plans:
        console.print(render(plan))

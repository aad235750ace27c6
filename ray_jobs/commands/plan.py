"""``pbr plan``: checks curricula and shows what they would train, without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from ray_jobs.commands import options


@click.command("plan")
@options.FILES
@options.DATA_IF_ANY
@options.SOURCES
@click.option(
    "--runtime",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Runtime file: workers, devices, precision.",
)
@click.option(
    "--set",
    "overrides",
    metavar="PATH=VALUE",
    multiple=True,
    help="Override a value by its path in the YAML file; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(
    files: tuple[Path, ...],
    data: tuple[DataPlace, ...],
    sources: tuple[tuple[str, str], ...],
    runtime: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check a ladder or curricula and show their phases, steps, crops, learning rates and losses.

    FILE is one ladder file, which lists curricula in the order of training, or one or more curriculum files.
    """
    from pbrlib.curriculum.config.load import load_ladder, load_runtime
    from pbrlib.curriculum.mistakes import collect
    from pbrlib.train.runtimespec import RuntimeSpec

    ladder = load_ladder(files, overrides=overrides)
    machines = load_runtime(runtime) if runtime is not None else RuntimeSpec()
    asked = DataSpec.from_options(data, sources)
    rows = None
    if data:
        from pbrlib.data.shards.union import open_data

        rows = open_data(asked).rows
    # Files with mistakes are answered before torch is imported.
    from pbrlib.curriculum.check.curriculum import check
    from pbrlib.curriculum.describe.description import describe_ladder
    from pbrlib.curriculum.sources import rename_in_ladder

    ladder = rename_in_ladder(ladder, asked.renamed, rows=rows)
    collect(
        lambda entry: check(
            entry.curriculum, place=str(entry.file), runtime=machines, rows=rows, curricula=ladder.curricula
        ),
        ladder.entries,
    )
    plan = describe_ladder(ladder, runtime=machines, rows=rows, data=asked if data else None)
    if as_json:
        click.echo(json.dumps(plan, indent=1))
        return
    from pbrlib.curriculum.describe.layout import WIDTH
    from pbrlib.curriculum.describe.tables import render_ladder
    from ray_jobs.bar import Console

    console = Console(highlight=False, log_width=WIDTH)
    console.print(render_ladder(plan))

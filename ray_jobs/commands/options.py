"""The words that ``pbr train``, ``rehearse`` and ``tune`` share; `pbr submit` knows them by their names."""

from __future__ import annotations

from pathlib import Path

import click

from ray_jobs.commands.paramtypes import Place

FILES = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))

DATA = click.option("--data", required=True, help="Shard set: a folder or s3:// address.")

RUNS = click.option("--runs", required=True, type=Place(), help="Directory of all runs, here or on S3.")

RUNTIME = click.option(
    "--runtime",
    "runtime_file",
    type=click.Path(path_type=Path),
    help="Runtime file, of a sweep that of one trial; default: two CPU workers.",
)

PHASES = click.option(
    "--phases", help="A phase or a range, S0..S1, of the curricula that have it; default: all of all."
)

OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override any address; of several curricula it begins with the name of one.",
)

ADDRESS = click.option("--address", help="Ray cluster to join; default: RAY_ADDRESS, else a local one.")

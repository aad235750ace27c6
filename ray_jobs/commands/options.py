"""Arguments and options that several commands share; `pbr submit` checks them by their names."""

from __future__ import annotations

from pathlib import Path

import click

from ray_jobs.commands.paramtypes import DataPlaceParam, LocalOrS3Path, RenamedSource, YamlFile

FILES = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=YamlFile())

_PLACE = "a folder or s3:// address; may be repeated. SOURCE= renames the source of its materials."

DATA = click.option(
    "--data",
    multiple=True,
    required=True,
    type=DataPlaceParam(),
    metavar="[SOURCE=]SHARDS",
    help=f"Shard set: {_PLACE}",
)

DATA_IF_ANY = click.option(
    "--data",
    multiple=True,
    type=DataPlaceParam(),
    metavar="[SOURCE=]SHARDS",
    help=f"Shard set to check sources and maps against, and to count steps with: {_PLACE}",
)

DATA_OR_ARGUMENT = click.option(
    "--data", multiple=True, type=DataPlaceParam(), metavar="[SOURCE=]SHARDS", help=f"Shard set: {_PLACE}"
)

SOURCES = click.option(
    "--source",
    "sources",
    multiple=True,
    type=RenamedSource(),
    metavar="NAME=SOURCE",
    help="Use the data of SOURCE where curricula name the source NAME; may be repeated.",
)

RUNS = click.option(
    "--runs", required=True, type=LocalOrS3Path(), help="Directory of all runs, local or s3://."
)

RUNTIME = click.option(
    "--runtime",
    "runtime_file",
    type=click.Path(path_type=Path),
    help="Runtime file: workers, devices, precision; in a sweep, of one trial. Default: two CPU workers.",
)

PHASES = click.option(
    "--phases",
    help="Phase, or range of phases such as S0..S1, in every curriculum that has it. Default: all.",
)

OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override a value by its path in the YAML file. With several curricula, begin with the name of one.",
)

ADDRESS = click.option("--address", help="Ray cluster to join. Default: RAY_ADDRESS, or a local cluster.")

"""The words that commands share, those about data before all; `pbr submit` knows them by their names."""

from __future__ import annotations

from pathlib import Path

import click

from ray_jobs.commands.paramtypes import DataPlaceParam, Place, RenamedSource, YamlFile

FILES = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=YamlFile())

_PLACE = "a folder or s3:// address; may be repeated. SOURCE= names what its materials count as."

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
    help=f"Shard set that checks sources and maps, and counts the steps: {_PLACE}",
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
    help="Feed the source NAME of the curricula from SOURCE of the data; may be repeated.",
)

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

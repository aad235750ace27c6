"""``pbr augment-preview``: saves a picture of the augmented inputs of a phase, without Ray."""

from __future__ import annotations

from pathlib import Path

import click

from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from ray_jobs.commands import options
from ray_jobs.commands.paramtypes import LocalOrS3Path

RECIPE = Path("configs/rev7")
"""The folder that is searched for a phase when no curriculum is named."""


@click.command("augment-preview")
@click.argument("location", metavar="[SHARDS]", required=False)
@options.DATA_OR_ARGUMENT
@options.SOURCES
@click.option("--phase", required=True, help="Phase whose samples are shown.")
@click.option(
    "--curriculum",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"Curriculum of the phase. Default: the one in {RECIPE} that has it.",
)
@click.option(
    "--out",
    metavar="PNG",
    type=LocalOrS3Path(dir_okay=False),
    help="Output picture. Default: augment-PHASE.png.",
)
@click.option("--count", default=12, show_default=True, type=click.IntRange(1), help="Number of samples.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override a value by its path in the YAML file; may be repeated.",
)
def command(
    *,
    location: str | None,
    data: tuple[DataPlace, ...],
    sources: tuple[tuple[str, str], ...],
    phase: str,
    file: Path | None,
    out: Path | None,
    count: int,
    overrides: tuple[str, ...],
) -> None:
    """Save a picture of the first samples of a phase before and after augmentation.

    Each map has two columns: the crop without augmentation, and the crop as it is trained on. Red lines in
    the second column are the borders of a mosaic's parts, and of pixels that the loss leaves out.
    """
    from pbrlib.curriculum.config.load import load_curriculum
    from pbrlib.curriculum.sources import rename_sources, require_named, require_sources
    from pbrlib.data.shards.union import open_data
    from pbrlib.errors import ConfigError
    from ray_jobs.output import check_file, write_file

    if location is not None:
        click.echo(f"pbr: an argument SHARDS goes with the next version; write --data {location}.", err=True)
        data = (DataPlace(location), *data)
    if not data:
        raise ConfigError("--data: got none; expected the shard set that the phase draws from.")
    asked = DataSpec.from_options(data, sources)
    out = out or Path(f"augment-{phase}.png")
    check_file(out, option="--out")
    place = file or find_curriculum(phase, folder=RECIPE)
    curriculum = load_curriculum(place, overrides=overrides)
    require_named([curriculum], asked.renamed)
    curriculum = rename_sources(curriculum, asked.renamed)
    if phase not in curriculum.phases:
        raise ConfigError(
            f"--phase: {place} has no phase {phase!r}. Its phases are {', '.join(curriculum.phases)}."
        )
    shards = open_data(asked)
    require_sources(asked.renamed, shards.rows)
    from pbrlib.curriculum.describe.preview import preview

    picture = preview(curriculum, phase, shards=shards, count=count)
    write_file(out, picture)
    click.echo(f"{place}, phase {phase}: {out}")


def find_curriculum(phase: str, *, folder: Path) -> Path:
    """The one curriculum file of a folder with a phase of that name; ConfigError for none or several."""
    from pbrlib.curriculum.config.yamlfile import read_yaml
    from pbrlib.errors import ConfigError

    found = []
    for path in sorted(folder.glob("*.yaml")):
        content = read_yaml(path)
        phases = content.get("phases") if isinstance(content, dict) else None
        if isinstance(phases, dict) and phase in phases:
            found.append(path)
    if len(found) == 1:
        return found[0]
    known = f"it is in {', '.join(map(str, found))}" if found else f"no curriculum in {folder} has it"
    raise ConfigError(f"--phase {phase}: {known}. Name the file with --curriculum.")

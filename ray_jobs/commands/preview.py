"""``pbr augment-preview SHARDS --phase S0``: a picture of what the network of a phase sees; no Ray."""

from __future__ import annotations

from pathlib import Path

import click

from ray_jobs.commands.paramtypes import Place

RECIPE = Path("configs/rev7")
"""Where a phase is looked for when no curriculum is named."""


@click.command("augment-preview")
@click.argument("location", metavar="SHARDS")
@click.option("--phase", required=True, help="The phase whose draws are shown.")
@click.option(
    "--curriculum",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"The curriculum of the phase; default: the one in {RECIPE} that has it.",
)
@click.option(
    "--out",
    metavar="PNG",
    type=Place(dir_okay=False),
    help="The picture; default: augment-PHASE.png.",
)
@click.option("--count", default=12, show_default=True, type=click.IntRange(1), help="Draws on the picture.")
@click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override an address of the curriculum."
)
def command(
    *,
    location: str,
    phase: str,
    file: Path | None,
    out: Path | None,
    count: int,
    overrides: tuple[str, ...],
) -> None:
    """Draw the first draws of a phase before and after augmentation, as the training would take them.

    The left column of each map is what validation would see of the same window. Red lines on the right one
    are the borders of a mosaic's parts, and of pixels that no loss looks at.
    """
    from pbrlib.curriculum.config.load import load_curriculum
    from pbrlib.curriculum.describe.preview import preview
    from pbrlib.data.shards.reader import ShardSet
    from pbrlib.errors import ConfigError
    from ray_jobs.output import check_file, write_file

    out = out or Path(f"augment-{phase}.png")
    check_file(out, option="--out")
    place = file or curriculum_with(phase, folder=RECIPE)
    curriculum = load_curriculum(place, overrides=overrides)
    if phase not in curriculum.phases:
        raise ConfigError(
            f"--phase: {place} has no phase {phase!r}. Its phases are {', '.join(curriculum.phases)}."
        )
    picture = preview(curriculum, phase, shards=ShardSet.open(location), count=count)
    write_file(out, picture)
    click.echo(f"{place}, phase {phase}: {out}")


def curriculum_with(phase: str, *, folder: Path) -> Path:
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

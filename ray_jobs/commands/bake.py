"""``pbr bake SOURCE --out DIR``: renders modern materials to an old-style texture tree, without Ray."""

from __future__ import annotations

from pathlib import Path

import click

from ray_jobs.commands.paramtypes import LocalPath

INCOMPLETE = 1


@click.command("bake")
@click.argument("source", metavar="SOURCE")
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=LocalPath(file_okay=False, why="textures are written locally."),
    help="Output folder.",
)
@click.option(
    "--size",
    default=1024,
    show_default=True,
    type=click.IntRange(16),
    help="Largest side of a material in pixels, for a folder of materials.",
)
@click.option(
    "--hold-out",
    metavar="PATTERN",
    multiple=True,
    help="Bake only the materials that pbr prepare holds out by this pattern; may be repeated.",
)
@click.pass_context
def command(ctx: click.Context, *, source: str, out: Path, size: int, hold_out: tuple[str, ...]) -> None:
    """Render modern materials to old-style textures, and write their maps beside them as ground truth.

    SOURCE is a folder with a subfolder for each material, or generated:count=8,size=256,seed=1. Convert DIR
    with pbr convert, then pass DIR/index.json and DIR/materials to pbr score. Run the same command again to
    bake what is missing, damaged or changed. Exit code 1 if a material could not be baked.
    """
    from pbrlib import storage
    from ray_jobs.source import parse_source

    materials = parse_source(source, size=size, name=None)
    storage.check_writable(out, option="--out")
    from pbrlib.convert.oldtree import bake_tree
    from pbrlib.errors import printable
    from pbrlib.jobs.job import describe_failures
    from ray_jobs.bar import show_progress

    with show_progress("bake") as watch:
        tree = bake_tree(materials, output=out, hold_out=hold_out, watch=watch)
    kept = f" ({tree.num_kept} stood before)" if tree.num_kept else ""
    click.echo(f"{len(tree.baked)} textures in {out}/textures{kept}, their truth in {out}/materials")
    if tree.left_out:
        click.echo(printable(describe_failures(tree.left_out)), err=True)
        ctx.exit(INCOMPLETE)

"""``pbr convert RUN INPUT OUTPUT``: old textures to True PBR.

One process runs the networks and disposable children decode and write, so Ray has nothing to add on one
machine and is not started.
"""

from __future__ import annotations

from pathlib import Path

import click

from ray_jobs.commands.paramtypes import LocalPlace, Place

_TEXTURES = LocalPlace(file_okay=False, why="textures are files of this machine. Copy them.")


@click.command("convert")
@click.argument("run", type=Place(file_okay=False))
@click.argument("source", metavar="INPUT", type=_TEXTURES)
@click.argument("output", type=_TEXTURES)
@click.option("--device", default="auto", show_default=True, help="Where the networks run: auto, cpu, cuda.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Child processes.")
@click.pass_context
def command(
    context: click.Context, *, run: Path, source: Path, output: Path, device: str, workers: int
) -> None:
    """Convert the textures of INPUT with the networks of RUN into the mod folder OUTPUT.

    RUN is the directory given to pbr train --runs, or a model folder. INPUT is a game's Data folder or a
    texture folder (DDS or PNG). Files of the same names in OUTPUT are replaced. Exit code 1 if a texture
    failed; report.json says why. 2 if nothing could be converted, as when RUN lacks a network.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pbrlib import storage
    from pbrlib.convert.inputs import require_maps
    from pbrlib.convert.runner import Progress as Done
    from pbrlib.convert.runner import convert_tree, refuse_overlap
    from pbrlib.errors import DataError
    from pbrlib.inference.chain import Chain
    from ray_jobs.device import parse_device

    where = parse_device(device)
    refuse_overlap(source=source, output=output)
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give the folder with the textures.")
    storage.check_writable(output, option="OUTPUT")
    chain = Chain.open(run, device=where)
    require_maps(chain.roles, place=str(run))
    console = Console()
    columns = (
        TextColumn("converting"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("convert", total=None, name="")

        def show(progress: Done) -> None:
            bar.update(task, completed=progress.done, total=progress.total, name=progress.name)

        report = convert_tree(chain, source=source, output=output, num_workers=workers, watch=show)
    for table in report.tables():
        console.print(table)
    counts = ", ".join(f"{count} {fate}" for fate, count in report.counts().items())
    console.print(
        f"{counts} in {report.seconds:.1f} s. Report and pictures: {output}/report.json, contact.png"
    )
    context.exit(report.exit_code)

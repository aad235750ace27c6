"""``pbr convert MODEL INPUT OUTPUT``: old textures to True PBR.

One process runs the networks and disposable children decode and write, so Ray has nothing to add on one
machine and is not started.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pbrlib.errors import DataError
from ray_jobs.commands.paramtypes import LocalOrS3Path, LocalPath

if TYPE_CHECKING:
    from pbrlib.convert.conversionreport import Report
    from pbrlib.textures.leftout import LeftOutFile
    from pbrlib.textures.pairs import Listing
    from ray_jobs.bar import Console

_TEXTURES = LocalPath(
    file_okay=False, why="textures are read and written locally. Copy them to this machine."
)
_GLOSS = "gloss"


class _Specular(click.ParamType[Any]):
    """A share in [0, 1], or the word for the gloss of the old normal."""

    name = f"SHARE|{_GLOSS}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or the word."""
        if value == _GLOSS:
            return value
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0.0 <= share <= 1.0:
            self.fail(f"got {value!r}; expected a number from 0 to 1, or {_GLOSS}.", param, ctx)
        return share


@click.command("convert")
@click.argument("run", metavar="MODEL", type=LocalOrS3Path(file_okay=False))
@click.argument("source", metavar="INPUT", type=_TEXTURES)
@click.argument("output", type=_TEXTURES)
@click.option(
    "--device", default="auto", show_default=True, help="Device of the networks: auto, cpu or cuda."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Number of processes that decode and encode textures.",
)
@click.option(
    "--specular",
    type=_Specular(),
    default="1",
    show_default=True,
    help="Alpha channel of RMAOS, as a fraction of the reflectance 0.04: a number, or gloss for the old "
    "normal map's alpha.",
)
@click.pass_context
def command(
    context: click.Context,
    *,
    run: Path,
    source: Path,
    output: Path,
    device: str,
    workers: int,
    specular: float | str,
) -> None:
    """Convert the textures of INPUT with the networks of MODEL into the mod folder OUTPUT.

    MODEL is a model folder, or the directory given to pbr train --runs; a run or a phase in it stands for
    the networks of all its runs. INPUT is a game's or a mod's folder, its texture folder or a folder in that
    (DDS, PNG, TGA, BMP, JPEG or WebP). Textures in OUTPUT from an earlier conversion are replaced, True
    PBR sets of another origin are kept. Exit code 1 if a texture was left out although textures of its kind
    are converted; report.json has the reasons. Exit code 2 if nothing could be converted, for example because
    MODEL lacks a network.
    """
    from pbrlib import storage
    from pbrlib.runs.place import networks_at

    storage.check_writable(output, option="OUTPUT")
    run = networks_at(run)
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Give the folder with the textures.")
    from pbrlib.convert.conversion import Predictor, Settings
    from pbrlib.convert.inputs import require_maps
    from pbrlib.convert.runner import convert_tree, refuse_overlap
    from pbrlib.inference.chain import Chain
    from ray_jobs.bar import Console, show_progress
    from ray_jobs.device import parse_device

    where = parse_device(device)
    refuse_overlap(source=source, output=output)

    def open_networks() -> Predictor:
        chain = Chain.open(run, device=where)
        require_maps(chain.roles, place=str(run))
        return chain

    console = Console()
    seen: set[LeftOutFile] = set()

    def begin(listing: Listing) -> None:
        seen.update(listing.left_out)
        _print_listing(console, listing)

    with show_progress("convert") as watch:
        report = convert_tree(
            open_networks,
            source=source,
            output=output,
            settings=Settings(
                num_workers=workers, specular="gloss" if isinstance(specular, str) else specular
            ),
            begin=begin,
            watch=lambda progress: watch(progress.done, progress.total),
        )
    _print_report(console, report, new=[file for file in report.left_out if file not in seen])
    context.exit(report.exit_code)


def _print_listing(console: Console, listing: Listing) -> None:
    """Says what there is to convert and what is left out, before the networks run."""
    from pbrlib.convert.conversionreport import left_out_table
    from pbrlib.errors import printable

    if listing.left_out:
        console.print(left_out_table(listing.left_out))
    for note in listing.notes:
        console.print(f"Note: {printable(note)}.", markup=False, highlight=False, soft_wrap=True)
    count = f"{len(listing.pairs)} texture{'' if len(listing.pairs) == 1 else 's'}"
    line = f"{count} of {printable(str(listing.root))} to convert"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_report(console: Console, report: Report, *, new: list[LeftOutFile]) -> None:
    """Says what became of the textures; what was left out beforehand has been said."""
    from pbrlib.convert.conversionreport import left_out_table
    from pbrlib.errors import printable

    if report.converted:
        console.print(report.table())
    if new:
        console.print(left_out_table(new))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in report.counts().items())
    ended = "" if report.state == "complete" else f"{report.state} ({printable(report.reason)}): "
    again = " The same command converts all of them again." if report.state == "stopped" else ""
    pictures = ", contact.png" if report.converted else ""
    console.print(
        f"{ended}{counts} in {report.seconds:.1f} s. "
        f"Report: {printable(report.output)}/report.json{pictures}.{again}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )

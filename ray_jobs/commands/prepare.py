"""``pbr prepare``: audits materials and writes them as a shard set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ray_jobs.commands.paramtypes import LocalOrS3Path
from ray_jobs.output import check_file, write_file

if TYPE_CHECKING:
    from pbrlib.data.shards.index import Split
    from pbrlib.data.shards.manifest import Manifest
    from ray_jobs.bar import Console
    from ray_jobs.preparation import PrepareResult

INCOMPLETE = 1
REFUSED = 2


@click.command("prepare")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--out",
    metavar="SHARDS",
    required=True,
    type=LocalOrS3Path(),
    help="Folder or s3:// address of the shard set.",
)
@click.option(
    "--size",
    default=1024,
    show_default=True,
    type=click.IntRange(16),
    help="Largest side of a material in pixels; larger ones are reduced.",
)
@click.option(
    "--val-share",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the material families for validation, at least one of each class that has several.",
)
@click.option(
    "--hold-out",
    metavar="PATTERN",
    multiple=True,
    help="Ids or families for validation, with their whole family; * matches any text; may be repeated.",
)
@click.option(
    "--append", is_flag=True, help="Add a new version to an existing set; ids that it has are skipped."
)
@click.option("--strict", is_flag=True, help="Treat warnings of the audit as errors: publish nothing.")
@click.option("--name", help="Source name of the materials in folders. Default: the name of the folder.")
@click.option("--report", metavar="FILE", type=LocalOrS3Path(dir_okay=False), help="Write the audit as JSON.")
@click.option("--num-cpus", type=click.IntRange(1), help="Logical CPUs of the local Ray cluster.")
@click.pass_context
def command(
    ctx: click.Context,
    sources: tuple[str, ...],
    out: Path,
    size: int,
    val_share: float,
    hold_out: tuple[str, ...],
    append: bool,
    strict: bool,
    name: str | None,
    report: Path | None,
    num_cpus: int | None,
) -> None:
    """Audit materials and write them as a shard set.

    \b
    SOURCE is one of
      a folder with a subfolder for each material
      "matsynth:path=/data/matsynth/*.parquet,licences=CC0+CC-BY,keep_marble=false"
      skyrim:old=/data/old,new=/data/new,masks=/data/masks
      generated:count=64,size=256,seed=1

    Run the same command again to resume after an interrupt; finished shards are kept.

    Exit code 0: all materials are in the set. 1: the set is published, but materials with an error were
    left out. 2: nothing was published.
    """  # noqa: D301 (click reads the control character)
    from pbrlib import storage
    from ray_jobs.bar import show_progress
    from ray_jobs.cluster.stopping import interrupt_advice
    from ray_jobs.preparation import prepare
    from ray_jobs.source import parse_source

    storage.check_writable(out, option="--out")
    if report is not None:
        check_file(report, option="--report")
    with (
        interrupt_advice(lambda: f"nothing was published in {out}; the same command begins anew"),
        show_progress("prepare") as watch,
    ):
        result = prepare(
            [parse_source(text, size=size, name=name) for text in sources],
            out=out,
            val_share=val_share,
            hold_out=hold_out,
            append=append,
            strict=strict,
            num_cpus=num_cpus,
            watch=watch,
        )
    if report is not None:
        write_file(report, result.report.to_json().encode(), place=f"--report {report}")
    _show(result, out=out)
    if result.manifest is None:
        ctx.exit(REFUSED)
    if result.report.excluded:
        ctx.exit(INCOMPLETE)


def _show(result: PrepareResult, *, out: Path) -> None:
    from ray_jobs.bar import Console

    console = Console()
    report, manifest = result.report, result.manifest
    if report.findings:
        console.print(report.table())
    if result.skipped:
        console.print(f"{len(result.skipped)} materials were in the set already; skipped.")
    counts = f"errors: {report.count('error')}, warnings: {report.count('warning')}"
    console.print(f"Materials read: {report.num_materials}, left out: {len(report.excluded)} ({counts}).")
    if manifest is None:
        console.print(f"Nothing published: {result.refusal}.", style="red")
        return
    splits = manifest.splits
    console.print(
        f"{out}: version {manifest.version}, {splits['train']} to train on, {splits['val']} to validate."
    )
    _show_classes(console, manifest)


def _show_classes(console: Console, manifest: Manifest) -> None:
    """Prints how many materials of each class train and validate, and which classes lack one of the two."""
    from rich.table import Table

    if manifest.classes is None:  # of a version from before classes were counted, to which nothing was added
        return
    table = Table("class", title="Split", title_justify="left")
    table.add_column("train", justify="right")
    table.add_column("val", justify="right")
    for name, counts in manifest.classes.items():
        table.add_row(
            name, str(counts["train"]), str(counts["val"]), style="" if all(counts.values()) else "yellow"
        )
    console.print(table)
    lacks: dict[Split, str] = {"val": "validate", "train": "train on"}
    for split, purpose in lacks.items():
        names = [name for name, counts in manifest.classes.items() if not counts[split]]
        if names:
            console.print(
                f"Nothing to {purpose}: {', '.join(names)}. Add families of them, or change --hold-out.",
                style="yellow",
            )

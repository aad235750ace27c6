"""``pbr report``: a run as one HTML page; starts no Ray."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ray_jobs.commands.paramtypes import Place


@click.command("report")
@click.argument("run", metavar="RUN", type=Place())
@click.option(
    "--out",
    metavar="HTML",
    type=Place(dir_okay=False),
    help="Where the page goes; default: RUN/report.html.",
)
def command(run: Path, out: Path | None) -> None:
    """Write RUN, a folder RUNS/CURRICULUM, as one HTML page that needs nothing beside it.

    Curves, the pictures of each validation, IoU by class, the confusion matrix of an evaluation that lies
    beside the run, wall time, the resolved plan and the environment.
    """
    from pbrlib import storage
    from pbrlib.runs.place import run_at

    run = run_at(run, usage="pbr report")
    from pbrlib.runs.htmlreport import page
    from pbrlib.runs.record import Run
    from ray_jobs.output import check_file, write_file

    file = out or run / "report.html"
    with storage.snapshot(run.parent):
        opened = Run.open(run)
        check_file(file, option="--out")
        content = page(opened, now=time.time()).encode()
    if out is None:  # a link that lies in the folder of somebody else's run is not followed
        storage.write_atomic(file, content)
    else:
        write_file(file, content)
    click.echo(f"Report: {file} ({len(content) / 1e6:.1f} MB)")

"""``pbr report``: a run, or all runs of a directory, as one HTML page; starts no Ray."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ray_jobs.commands.paramtypes import LocalOrS3Path


@click.command("report")
@click.argument("run", metavar="RUN", type=LocalOrS3Path())
@click.option(
    "--out",
    metavar="HTML",
    type=LocalOrS3Path(dir_okay=False),
    help="Output file. Default: report.html in RUN.",
)
def command(run: Path, out: Path | None) -> None:
    """Write a self-contained HTML report of RUN.

    RUN is a folder RUNS/CURRICULUM, the folder of a phase in it, or RUNS, for one report of all its runs. The
    report shows curves, the pictures of each validation, IoU by class, the confusion matrix of an evaluation
    beside the run, wall time, the resolved plan and the environment.
    """
    from pbrlib import storage
    from pbrlib.runs.place import report_at

    place = report_at(run)
    from pbrlib.runs.htmlreport import page, page_of_runs
    from pbrlib.runs.record import Run, find_runs, in_ladder_order, is_run
    from ray_jobs.output import check_file, write_file

    file, now = out or place / "report.html", time.time()
    if is_run(place):
        with storage.snapshot(place.parent):
            opened = Run.open(place)
            check_file(file, option="--out")
            content = page(opened, now=now).encode()
    else:
        with storage.snapshot(place):
            runs = in_ladder_order(find_runs(place), root=place)
            check_file(file, option="--out")
            content = page_of_runs(runs, title=place.resolve().name, now=now).encode()
    if out is None:  # a link that lies in the folder of somebody else's run is not followed
        storage.write_atomic(file, content)
    else:
        write_file(file, content)
    click.echo(f"Report: {file} ({len(content) / 1e6:.1f} MB)")

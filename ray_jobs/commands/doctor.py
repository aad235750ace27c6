"""``pbr doctor``: what this machine offers a training; starts nothing and imports no torch."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

INCOMPLETE, UNFIT = 1, 2
_SIGNS = {"good": "  ", "warning": "! ", "error": "X "}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """Examine this machine: Python, packages, GPUs, disk, shared memory, ports, credentials.

    It shows whether credentials exist, never their values. Exit code 0: everything works. 1:
    some things could work better. 2: training cannot start.
    """
    from ray_jobs.cluster.diagnosis import examine

    findings = list(examine())
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings], indent=1))
    else:
        width = max(len(one.thing) for one in findings)
        for one in findings:
            click.echo(f"{_SIGNS[one.state]}{one.thing:<{width}}  {one.sentence}")
    states = {one.state for one in findings}
    context.exit(UNFIT if "error" in states else INCOMPLETE if "warning" in states else 0)

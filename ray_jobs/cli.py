"""The ``pbr`` command: subcommands are imported only when they run, so that ``pbr --help`` is quick."""

from __future__ import annotations

import io
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from pbrlib.errors import GateError, PbrError, printable
from ray_jobs.cluster.machineerrors import describe_machine_error
from ray_jobs.invocation import is_verbose, refuse_misspelled, respell, set_verbosity, with_verbosity
from ray_jobs.safepath import leave_current_folder

INPUT_ERROR = 2
GATE_CLOSED = 3
INTERRUPTED = 130

SUBCOMMANDS = {
    "doctor": ("ray_jobs.commands.doctor:command", "Check that this machine has what training needs."),
    "prepare": ("ray_jobs.commands.prepare:command", "Read materials, audit them and write a shard set."),
    "shards": ("ray_jobs.commands.inspect:shards", "Inspect a shard set."),
    "plan": (
        "ray_jobs.commands.plan:command",
        "Check curricula and show what they would train, without training.",
    ),
    "augment-preview": (
        "ray_jobs.commands.preview:command",
        "Save a picture of the augmented inputs of a phase.",
    ),
    "rehearse": (
        "ray_jobs.commands.rehearse:command",
        "Run a few steps of every phase; estimate time, memory and storage.",
    ),
    "train": (
        "ray_jobs.commands.train:command",
        "Train a ladder or curricula; run the same command again to resume.",
    ),
    "runs": ("ray_jobs.commands.runs:runs", "List, show, compare and prune runs."),
    "debug-step": (
        "ray_jobs.commands.debug:command",
        "Replay one training step in one process and inspect it.",
    ),
    "report": ("ray_jobs.commands.report:command", "Write a self-contained HTML report."),
    "submit": (
        "ray_jobs.commands.submit:command",
        "Run one of these commands as a job on a Ray cluster and follow it.",
    ),
    "tune": ("ray_jobs.commands.tune:command", "Search for better hyperparameters of one phase."),
    "evaluate": (
        "ray_jobs.commands.evaluate:command",
        "Evaluate trained networks against trivial baselines.",
    ),
    "convert": ("ray_jobs.commands.convert:command", "Convert a folder of old textures to True PBR."),
    "score": (
        "ray_jobs.commands.score:command",
        "Score a converted folder against its ground-truth materials.",
    ),
    "bake": ("ray_jobs.commands.bake:command", "Render modern materials to a folder of old-style textures."),
}
"""Name of a subcommand -> (module:attribute, the line that ``pbr --help`` shows for it)."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is invoked, and turns PbrErrors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the subcommands, in the order in which they are used."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one subcommand; None for an unknown name."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, attribute = SUBCOMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return with_verbosity(command)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options before the subcommand; each invocation begins at the default verbosity."""
        set_verbosity("normal")
        return super().parse_args(ctx, respell(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand; an unknown name is answered with the nearest one."""
        if args[0] not in SUBCOMMANDS:
            refuse_misspelled(ctx, args[0], SUBCOMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in SUBCOMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand; an input error becomes its message and exit code 2, an interrupt 130.

        A phase that did not pass its gate is neither a mistake nor a success: 3.
        """
        leave_current_folder()
        for stream in (sys.stdout, sys.stderr):  # names of files may hold bytes that are no text
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        # torch's threads spin while they wait, by default: beside any other work on the machine that made
        # conversion take three times as long. It has to be said before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            os.getcwd()  # noqa: PTH109  # a folder that is gone is said here: torch ends the process
            return super().invoke(ctx)
        except PbrError as error:
            if is_verbose():
                traceback.print_exc()
            click.echo(f"pbr: {printable(error)}", err=True)
            ctx.exit(GATE_CLOSED if isinstance(error, GateError) else INPUT_ERROR)
        except (OSError, MemoryError, RuntimeError) as error:  # torch's of a full GPU is a RuntimeError
            if (sentence := describe_machine_error(error)) is None:
                raise
            click.echo(f"pbr: {printable(sentence)}", err=True)
            ctx.exit(INPUT_ERROR)
        except KeyboardInterrupt as interrupt:
            click.echo("; ".join(["pbr: interrupted", *map(printable, interrupt.args)]), err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pbrlib", prog_name="pbr")
def main() -> None:
    """PBR texture models: prepare data, train on Ray, measure, convert."""


with_verbosity(main)

"""What every command shares: ``-q`` and ``-v``, and the answer to a misspelled name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias

import click

Verbosity: TypeAlias = Literal["quiet", "normal", "verbose"]

_LOGGERS = ("pbrlib", "ray_jobs")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_verbosity: Verbosity = "normal"
_handler: logging.Handler | None = None


def is_quiet() -> bool:
    """Whether a command prints only its results and errors."""
    return _verbosity == "quiet"


def is_verbose() -> bool:
    """Whether a command prints its whole log, and the traceback of an error."""
    return _verbosity == "verbose"


def set_verbosity(verbosity: Verbosity) -> None:
    """Set the level of the product's loggers; verbose ones write to standard error."""
    global _verbosity, _handler
    _verbosity = verbosity
    levels = {"quiet": logging.ERROR, "normal": logging.NOTSET, "verbose": logging.DEBUG}
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(levels[verbosity])
        if _handler is not None:
            logger.removeHandler(_handler)
    _handler = None
    if verbosity == "verbose":
        _handler = logging.StreamHandler()
        _handler.setFormatter(logging.Formatter(_FORMAT, "%H:%M:%S"))
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(_handler)


def with_verbosity(command: click.Command) -> click.Command:
    """Give a command, and those below it, ``-q`` and ``-v``."""
    if not any(parameter.name == "quiet" for parameter in command.params):
        command.params += [
            _option("-q", "--quiet", "quiet", "Print results and errors only: no progress, no warnings."),
            _option(
                "-v", "--verbose", "verbose", "Print more: the log with times, and the traceback of an error."
            ),
        ]
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_verbosity(inner)
    return command


def _option(short: str, long: str, verbosity: Verbosity, text: str) -> click.Option:
    return click.Option(
        [short, long], is_flag=True, expose_value=False, is_eager=True, callback=_chosen(verbosity), help=text
    )


def _chosen(verbosity: Verbosity) -> Callable[[click.Context, click.Parameter, Any], None]:
    def choose(context: click.Context, parameter: click.Parameter, given: bool) -> None:
        if given:
            set_verbosity(verbosity)

    return choose


def refuse_misspelled(context: click.Context, name: str, commands: Iterable[str]) -> None:
    """End with a usage error where a word is no path and looks like the name of a command."""
    if Path(name).exists() or "/" in name or "." in name:
        return
    near = get_close_matches(name, list(commands), n=1)
    if near:
        context.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")

"""Options that every command has (``-q``, ``-v``), and the handling of misspelled and old names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    """End with a usage error if a word is not a path and resembles the name of a command."""
    if Path(name).exists() or "/" in name or "." in name:
        return
    near = get_close_matches(name, list(commands), n=1)
    if near:
        context.fail(f"No such command {name!r}. Did you mean {near[0]!r}?")


@dataclass(frozen=True)
class OldSpelling:
    """A name that changed.

    Attributes:
        command: The command that has the option, such as ``tune apply``; empty if the name is a command.
        old: Former name.
        new: Present name.
    """

    command: str
    old: str
    new: str


OLD_SPELLINGS: tuple[OldSpelling, ...] = (OldSpelling("rehearse", "--json", "--report"),)
"""Names that changed since the last version; an entry is removed with the next one."""


def respell(arguments: Sequence[str], *, table: Sequence[OldSpelling] = OLD_SPELLINGS) -> list[str]:
    """Return the command line with present names, and warn about each old one.

    The command after the ``--`` of `pbr submit` is included.
    """
    own, submitted = _split(arguments)
    found, changed = list(own), []
    command = next(_positions(own), None)
    for one in table:
        if one.command:
            for place, word in enumerate(found):
                option, equals, value = word.partition("=")
                if option == one.old and one.command in _paths(found):
                    found[place] = one.new + equals + value
                    changed.append(one)
        elif command is not None and found[command] == one.old:
            found[command] = one.new
            changed.append(one)
    if not {"-q", "--quiet"} & set(found):
        for one in dict.fromkeys(changed):
            where = f"pbr {one.command}: {one.old}" if one.command else f"pbr {one.old}"
            click.echo(
                f"{where}: got a name that the next version removes; expected {one.new}. Use {one.new}.",
                err=True,
            )
    return found if submitted is None else [*found, "--", *respell(submitted, table=table)]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Return the words before ``--`` and those after it; None if there is no ``--``."""
    words = list(arguments)
    if "--" not in words:
        return words, None
    place = words.index("--")
    return words[:place], words[place + 1 :]


def _positions(words: Sequence[str]) -> Iterator[int]:
    """Yield the positions of the words that are not options."""
    return (place for place, word in enumerate(words) if not word.startswith("-"))


def _paths(words: Sequence[str]) -> set[str]:
    """Return the command, and the command with its subcommand."""
    names = [words[place] for place in _positions(words)][:2]
    return {" ".join(names[:length]) for length in (1, 2)}

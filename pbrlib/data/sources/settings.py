"""Settings of a source on the command line: ``kind:key=value,key=value``, lists joined by ``+``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from pbrlib.errors import ConfigError

Reader: TypeAlias = Callable[[str], object]
"""Reads a value; raises ValueError if it cannot."""

_FLAGS = {"true": True, "false": False}


def read_settings(text: str, *, readers: Mapping[str, Reader], example: str) -> dict[str, Any]:
    """The settings that are written, by key.

    Args:
        text: As it was given; what follows the first colon.
        readers: Of every key that there is.
        example: A source of this kind as it is written; the keys in it are those that must be given.

    Raises:
        ConfigError: A key that there is not, is missing or comes twice, or a value that cannot be read.
    """
    kind, _, body = text.partition(":")
    values: dict[str, Any] = {}
    for part in filter(None, body.split(",")):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in readers:
            near = get_close_matches(key, list(readers), n=1)
            way_out = f"Did you mean {near[0]}?" if near else f"Use {', '.join(readers)}."
            raise ConfigError(f"{text}: {key} is no setting of {kind}. {way_out}")
        if key in values:
            raise ConfigError(f"{text}: {key} is given twice. Leave one of them.")
        try:
            values[key] = readers[key](value)
        except ValueError:
            wanted = {flag: "true or false", int: "a whole number", float: "a number"}.get(readers[key])
            raise ConfigError(
                f"{text}: {key} cannot be {value!r}. Use {wanted or 'another value'}."
            ) from None
    missing = [part.partition("=")[0] for part in example.partition(":")[2].split(",")]
    missing = [key for key in missing if key not in values]
    if missing:
        raise ConfigError(f"{text}: lacks {', '.join(missing)}. Write {example}.")
    return values


def flag(value: str) -> bool:
    """``true`` or ``false``; raises ValueError for anything else."""
    if value.lower() not in _FLAGS:
        raise ValueError(value)
    return _FLAGS[value.lower()]


def joined(value: str) -> tuple[str, ...]:
    """A list joined by ``+``."""
    return tuple(value.split("+"))

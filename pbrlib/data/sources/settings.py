"""Parses the settings of a source on the command line: ``kind:key=value,key=value``; ``+`` joins lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from pbrlib.errors import ConfigError

Reader: TypeAlias = Callable[[str], object]
"""Parses a value; raises ValueError if it is invalid."""

_FLAGS = {"true": True, "false": False}


def read_settings(text: str, *, readers: Mapping[str, Reader], example: str) -> dict[str, Any]:
    """Parse the settings of a source, and return them by key.

    Args:
        text: The source as the user wrote it; the settings follow the first colon.
        readers: The parser of each valid key.
        example: An example of such a source; its keys are required.

    Raises:
        ConfigError: A key is unknown, missing or given twice, or a value cannot be read.
    """
    kind, _, body = text.partition(":")
    values: dict[str, Any] = {}
    for part in filter(None, body.split(",")):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in readers:
            near = get_close_matches(key, list(readers), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Use {', '.join(readers)}."
            raise ConfigError(f"{text}: got {key}; expected a setting of {kind}. {hint}")
        if key in values:
            raise ConfigError(f"{text}: got {key} twice; expected it once. Remove one of them.")
        try:
            values[key] = readers[key](value)
        except ValueError:
            wanted = {parse_flag: "true or false", int: "a whole number", float: "a number"}.get(readers[key])
            raise ConfigError(
                f"{text}: {key}: got {value!r}; expected {wanted or 'another value'}. Correct the value."
            ) from None
    missing = [part.partition("=")[0] for part in example.partition(":")[2].split(",")]
    missing = [key for key in missing if key not in values]
    if missing:
        raise ConfigError(
            f"{text}: got no {', '.join(missing)}; expected a source like {example}. Add what is missing."
        )
    return values


def parse_flag(value: str) -> bool:
    """Parse ``true`` or ``false``; raises ValueError for other values."""
    if value.lower() not in _FLAGS:
        raise ValueError(value)
    return _FLAGS[value.lower()]


def split_list(value: str) -> tuple[str, ...]:
    """Split a list at each ``+``."""
    return tuple(value.split("+"))

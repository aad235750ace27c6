"""Applies ``--set ADDRESS=VALUE`` overrides to raw data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbrlib.curriculum.config.yamlfile import parse_yaml, read_yaml
from pbrlib.curriculum.mistakes import Mistake, suggestion
from pbrlib.errors import ConfigError


def apply(data: dict[Any, Any], overrides: Sequence[str]) -> list[Mistake]:
    """Write overrides into raw data and return their mistakes.

    The value after ``=`` is YAML, or ``@FILE`` for the content of a YAML file.
    """
    mistakes = []
    for override in overrides:
        address, separator, text = override.partition("=")
        parts = address.strip().split(".")
        if not separator or not all(parts):
            mistakes.append(
                Mistake(
                    "--set",
                    f"got {override}; expected ADDRESS=VALUE. Write it as in phases.S1.crop=256.",
                )
            )
            continue
        try:
            value = _value(text)
        except ConfigError as error:
            mistakes.append(Mistake(f"--set {address}", str(error)))
            continue
        problem = _unknown_phase(data, parts) or _put(data, parts, value)
        if problem is not None:
            mistakes.append(Mistake(f"--set {address}", problem))
    return mistakes


def by_curriculum(
    overrides: Sequence[str], curricula: Sequence[str]
) -> tuple[dict[str, list[str]], list[Mistake]]:
    """Group overrides by the curriculum that their address begins with, and return the mistakes too."""
    own: dict[str, list[str]] = {name: [] for name in curricula}
    mistakes = []
    for override in overrides:
        address = override.partition("=")[0]
        name, point, rest = override.partition(".")
        if point and name in own:
            own[name].append(rest)
            continue
        mistakes.append(
            Mistake(
                f"--set {address}",
                f"got {address}; expected the name of a curriculum first, as in {curricula[0]}.seed=1. "
                f"{suggestion(name, curricula)}",
            )
        )
    return own, mistakes


def _value(text: str) -> Any:
    """Parse a value from the command line as YAML; raises ConfigError if it is not valid."""
    if text.startswith("@"):
        return read_yaml(Path(text[1:]))
    try:
        return parse_yaml(text, place="--set")
    except ConfigError:
        raise ConfigError(f"got {text!r}; expected a YAML value. Put it in quotes.") from None


def _unknown_phase(data: dict[Any, Any], parts: list[str]) -> str | None:
    """Return a mistake if an override addresses a phase that does not exist."""
    phases = data.get("phases")
    if parts[0] != "phases" or len(parts) < 2 or not isinstance(phases, dict) or parts[1] in phases:
        return None
    return f"got {parts[1]!r}; expected a phase. {suggestion(parts[1], map(str, phases))}"


def _put(data: dict[Any, Any], parts: list[str], value: Any) -> str | None:
    """Set the value at an address; unknown keys are reported by the validation later."""
    here = data
    for depth, part in enumerate(parts[:-1]):
        child = here.get(part)
        if child is None:
            child = {}
        elif isinstance(child, int | float) and not isinstance(child, bool):
            child = {"weight": child}  # a number is short for a weight
        if not isinstance(child, dict):
            return (
                f"got the value {child!r} at {'.'.join(parts[: depth + 1])}; expected a mapping. Set the "
                "whole mapping."
            )
        here[part] = dict(child)  # copied, since YAML anchors can share the child with other addresses
        here = here[part]
    here[parts[-1]] = value
    return None

"""Applies ``--set ADDRESS=VALUE`` overrides to raw data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbrlib.curriculum.config.yamlfile import parse_yaml, read_yaml
from pbrlib.curriculum.mistakes import Mistake, suggestion
from pbrlib.errors import ConfigError


def apply(data: dict[Any, Any], overrides: Sequence[str]) -> list[Mistake]:
    """Writes overrides into raw data; returns the mistakes in their form.

    The value behind ``=`` is YAML, or ``@FILE`` for the content of a YAML file.
    """
    mistakes = []
    for override in overrides:
        address, separator, text = override.partition("=")
        parts = address.strip().split(".")
        if not separator or not all(parts):
            mistakes.append(
                Mistake(f"--set {override}", "not of the form path=value. Write phases.S1.crop=256.")
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
    """The overrides of each of several curricula, whose addresses begin with its name, and the mistakes."""
    own: dict[str, list[str]] = {name: [] for name in curricula}
    mistakes = []
    for override in overrides:
        name, point, rest = override.partition(".")
        if point and name in own:
            own[name].append(rest)
            continue
        mistakes.append(
            Mistake(
                f"--set {override.partition('=')[0]}",
                "of several curricula an address begins with the name of one, as in "
                f"{curricula[0]}.seed=1. {suggestion(name, curricula)}",
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
        raise ConfigError(f"{text!r} is not a YAML value. Quote it as a whole.") from None


def _unknown_phase(data: dict[Any, Any], parts: list[str]) -> str | None:
    """Return a mistake if an override addresses a phase that does not exist."""
    phases = data.get("phases")
    if parts[0] != "phases" or len(parts) < 2 or not isinstance(phases, dict) or parts[1] in phases:
        return None
    return f"there is no phase {parts[1]!r}. {suggestion(parts[1], map(str, phases))}"


def _put(data: dict[Any, Any], parts: list[str], value: Any) -> str | None:
    """Set one value at its address alone; unknown keys are left for validation to name."""
    here = data
    for depth, part in enumerate(parts[:-1]):
        child = here.get(part)
        if child is None:
            child = {}
        elif isinstance(child, int | float) and not isinstance(child, bool):
            child = {"weight": child}  # a bare number is shorthand for a weight
        if not isinstance(child, dict):
            return f"{'.'.join(parts[: depth + 1])} is {child!r}, which has no parts. Set it as a whole."
        here[part] = dict(child)  # a copy: an anchor may share the child with other addresses
        here = here[part]
    here[parts[-1]] = value
    return None

"""Values written into a curriculum's file by their addresses, its comments and its layout kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.config.yamlfile import parse_yaml
from pbrlib.errors import ConfigError
from pbrlib.storage.files import write_text_atomic
from pbrlib.sweep.search import Params, overrides_of


@dataclass(frozen=True)
class _Edit:
    """Replaces ``text[start:end]``; ``line`` is where its comment goes."""

    start: int
    end: int
    text: str
    line: int


def amend(file: Path, params: Params, *, origin: str) -> dict[str, tuple[Any, Any]]:
    """Writes values into a curriculum, each with a comment that says what stood there and where it is from.

    Args:
        file: The curriculum.
        params: Address -> value.
        origin: A line about where they come from.

    Returns:
        The addresses that changed, each with its old value (None where there was none) and its new one.

    Raises:
        ConfigError: The curriculum would not be valid with them, or is written in a way, such as with
            anchors, in which a value has no place of its own. The file is as it was then.
    """
    wanted = load_curriculum(file, overrides=overrides_of(params))
    text = file.read_text(encoding="utf-8")
    changed: dict[str, tuple[Any, Any]] = {}
    for address, value in params.items():
        before = _value_at(parse_yaml(text, place=str(file)), address)
        if before == value and type(before) is type(value):
            continue
        edit = _edit(text, address.split("."), value)
        was = "" if before is None else f", was {before}"
        note = f"{address}{was}: {origin}"
        text = _with_comment(text[: edit.start] + edit.text + text[edit.end :], line=edit.line, note=note)
        changed[address] = (before, value)
    beside = file.with_name(f".{file.name}.amended.yaml")
    beside.write_text(text, encoding="utf-8")
    try:
        same = load_curriculum(beside) == wanted
    except ConfigError:
        same = False
    finally:
        beside.unlink()
    if not same:
        values = "\n  ".join(overrides_of(params))
        raise ConfigError(f"{file}: written in a way that these have no place in. Write by hand:\n  {values}")
    if changed:
        write_text_atomic(file, text)
    return changed


def _edit(text: str, parts: list[str], value: Any) -> _Edit:
    """What puts a value at an address: in place of what is there, or as a new entry."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    for depth, part in enumerate(parts):
        rest = _flow(parts[depth:], value)
        if not isinstance(node, yaml.MappingNode):
            if isinstance(node, yaml.ScalarNode) and depth:
                # A bare number is shorthand for a weight.
                if parts[depth:] == ["weight"]:
                    return _replace(node, _scalar(value))
                return _replace(node, f"{{weight: {node.value}, {rest}}}")
            raise ConfigError(f"{'.'.join(parts[:depth])}: a list, which has no addresses. Set it by hand.")
        child = next((entry for key, entry in node.value if key.value == part), None)
        if child is None:
            return _insert(text, node, rest)
        node = child
    return _replace(node, _scalar(value))


def _replace(node: yaml.Node, text: str) -> _Edit:
    return _Edit(node.start_mark.index, node.end_mark.index, text, node.start_mark.line)


def _insert(text: str, node: yaml.MappingNode, entry: str) -> _Edit:
    """A new last entry of a mapping, in its own style."""
    if not node.value:
        return _replace(node, f"{{{entry}}}")
    key, last = node.value[-1]
    if node.flow_style:
        place = last.end_mark.index
        return _Edit(place, place, f", {entry}", last.end_mark.line)
    # A block entry goes before the last one, whose end a comment may follow.
    place = key.start_mark.index
    return _Edit(place, place, f"{entry}\n{' ' * key.start_mark.column}", key.start_mark.line)


def _flow(parts: list[str], value: Any) -> str:
    """``b: {c: value}``."""
    inner = _scalar(value)
    for part in reversed(parts[1:]):
        inner = f"{{{part}: {inner}}}"
    return f"{parts[0]}: {inner}"


def _scalar(value: Any) -> str:
    dumped: str = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _with_comment(text: str, *, line: int, note: str) -> str:
    """A comment line above a line, as far in as it."""
    lines = text.split("\n")
    indent = lines[line][: len(lines[line]) - len(lines[line].lstrip())]
    return "\n".join([*lines[:line], f"{indent}# {note}", *lines[line:]])


def _value_at(data: Any, address: str) -> Any:
    *above, last = address.split(".")
    for part in above:
        data = data.get(part) if isinstance(data, Mapping) else None
    if isinstance(data, Mapping):
        return data.get(last)
    return data if last == "weight" else None

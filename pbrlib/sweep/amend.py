"""Writes values into the file of a curriculum by address, and keeps its comments and layout."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from pbrlib import storage
from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.spec import Curriculum
from pbrlib.errors import ConfigError
from pbrlib.sweep.search import Params, overrides_of


def amend(file: Path, params: Params, *, origin: str) -> dict[str, tuple[Any, Any]]:
    """Write values into a curriculum, each with a comment about its old value and origin.

    Args:
        file: The curriculum. A flow mapping over several lines is written on one line.
        params: Address -> value.
        origin: The origin of the values, in one line.

    Returns:
        The changed addresses, each with its old value (None if there was none) and its new value.

    Raises:
        ConfigError: The curriculum is not valid with the values, or a value is shared by an anchor. The file
            is not changed.
    """
    # The file is first read with size limits, so that nested aliases cannot exhaust memory in the round trip.
    wanted = load_curriculum(file, overrides=overrides_of(params))
    yaml = _round_trip()
    document = yaml.load(file.read_text(encoding="utf-8"))
    changed: dict[str, tuple[Any, Any]] = {}
    for address, value in params.items():
        before = _value_at(document, address)
        if before == value and isinstance(before, bool) == isinstance(value, bool):
            continue
        was = "" if before is None else f", was {before}"
        _put(document, address, value, note=f"{address}{was}: {origin}")
        changed[address] = (before, value)
    if not changed:
        return {}
    written = io.StringIO()
    yaml.dump(document, written)
    _check(written.getvalue(), wanted, file=file, params=params)
    storage.write_atomic(file, written.getvalue())
    return changed


def _round_trip() -> YAML:
    """Return a YAML reader and writer that preserves the layout of the curricula in ``configs``."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10**6
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _put(document: CommentedMap, address: str, value: Any, *, note: str) -> None:
    """Set a value, with a comment above its line, since comments cannot be inside of flow mappings."""
    *above, last = address.split(".")
    node, line = document, (document, last, 0)
    for depth, part in enumerate(above):
        if not node.fa.flow_style():
            line = (node, part, depth)
        if part not in node:
            _insert(node, part, _flow({}))
        elif not isinstance(node[part], CommentedMap):
            _require_number(node[part], ".".join(above[: depth + 1]))
            if last == "weight":  # a number is short for a weight
                node[part] = value
                _comment(*line, note=note)
                return
            node[part] = _flow({"weight": node[part]})
        node = node[part]
    if not node.fa.flow_style():
        line = (node, last, len(above))
    if last in node:
        node[last] = value
    else:
        _insert(node, last, value)
    _comment(*line, note=note)


def _require_number(value: Any, address: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = "a list" if isinstance(value, list) else repr(value)
        raise ConfigError(f"{address}: got {kind}; expected a mapping or a number. Set it by hand.")


def _insert(node: CommentedMap, key: str, value: Any) -> None:
    """Insert an entry; in a block, before the last entry, which may be followed by a comment."""
    node.insert(len(node) if node.fa.flow_style() else max(len(node) - 1, 0), key, value)


def _flow(values: Mapping[str, Any]) -> CommentedMap:
    node = CommentedMap(values)
    node.fa.set_flow_style()
    return node


def _comment(node: CommentedMap, key: str, depth: int, *, note: str) -> None:
    node.yaml_set_comment_before_after_key(key, before=note, indent=2 * depth)


def _check(text: str, wanted: Curriculum, *, file: Path, params: Params) -> None:
    """Raise ConfigError unless a text is the expected curriculum; values shared by anchors would differ."""
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
        raise ConfigError(
            f"{file}: got values that are shared by anchors; expected a separate value for each address. "
            f"Write these by hand:\n  {values}"
        )


def _value_at(document: Any, address: str) -> Any:
    *above, last = address.split(".")
    node = document
    for part in above:
        node = node.get(part) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping):
        return node.get(last)
    return node if last == "weight" else None

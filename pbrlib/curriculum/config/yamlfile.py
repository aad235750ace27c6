"""Parses safe YAML to plain values; every error has the file, line and column."""

from __future__ import annotations

import codecs
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pbrlib.errors import ConfigError

MOST_BYTES = 128 * 1024
"""The longest file that is read, ten times the longest curriculum: the parser takes seconds for this much."""

MOST_VALUES, MOST_LEVELS = 100_000, 50
"""The most values that a file may stand for once every alias is written out, and how deep they may lie."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"

_NOT_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What PyYAML's constructors raise for a text that is none of their type, such as ``!!bool x``."""


class _KeyError(yaml.MarkedYAMLError):
    """A key that stands twice in one mapping, where YAML takes the last silently, or that is a number."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key stands once, and scalars mean what they look like, as in YAML 1.2.

    In YAML 1.1 ``no`` is false, ``0200`` is 128, ``1:04`` is 64 and ``1e-4`` is a text.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, yaml.Mark] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if key_node.tag == _TAG + "int" and value_node.tag == _TAG + "null":
                raise _KeyError(
                    problem=f"got the number {key_node.value} as a key; expected a name. Write a decimal "
                    "fraction with a point: 0.002, not 0,002.",
                    problem_mark=key_node.start_mark,
                )
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    first = seen[key].line + 1
                    raise _KeyError(
                        problem=f"the key {key!r} stands twice, first in line {first}. Keep one.",
                        problem_mark=key_node.start_mark,
                    )
                seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except _NOT_VALUES as error:
            raise _bad(node, f"not a value of its type ({error})") from None
        if isinstance(value, int) and value.bit_length() > 64:
            raise _bad(node, "a whole number of more than 64 bits")
        return value


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else int(text)


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""How booleans and numbers look, and with which characters they begin."""

# Of PyYAML's own resolvers those of YAML 1.1's booleans and numbers go; null, dates and merge keys stay.
_OWN = {_TAG + name for name in _SCALARS}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _OWN]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_TAG + "int", _whole_number)


def parse_yaml(text: str, *, place: str) -> Any:
    """Safe YAML to plain values; raises ConfigError for anything else, with line and column."""
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{place}: longer than {MOST_BYTES} bytes. Give a configuration, not data.")
    try:
        return _load(text)
    except RecursionError:
        raise ConfigError(
            f"{place}: nested too deeply. Write it with at most {MOST_LEVELS} levels."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        raise ConfigError(f"{spot}: {_problem(error)}") from None
    except (yaml.YAMLError, *_NOT_VALUES) as error:
        raise ConfigError(
            f"{place}: not readable as YAML: {str(error).splitlines()[0]}. Mend the file."
        ) from None


def read_yaml(path: Path) -> Any:
    """The content of a file; raises ConfigError when it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = _decoded(content)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: got the byte 0x{content[error.start]:02x}; expected a text in UTF-8. Save the "
            "file in that encoding."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}. Give a YAML file that can be read.") from None
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: not the name of a file ({error}). Give a YAML file.") from None
    return parse_yaml(text, place=str(path))


def _decoded(content: bytes) -> str:
    """The text of UTF-8 with or without a mark, or of UTF-16 with one, as Windows' editors save it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def lines_of(path: Path) -> dict[str, int]:
    """The line of each address in a file that could be read, from 1; an empty address is the first line."""
    with path.open("rb") as file:
        loader = _Loader(_decoded(file.read(MOST_BYTES)))
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    found = {"": 1}
    waiting: list[tuple[str, Any]] = [("", node)]
    while waiting:
        above, node = waiting.pop()
        parts: list[tuple[str, yaml.Node, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            parts = [(str(key.value), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            parts = [(str(number), value, value) for number, value in enumerate(node.value)]
        for name, place, value in parts:
            address = f"{above}.{name}" if above else name
            if address not in found:
                found[address] = place.start_mark.line + 1
                waiting.append((address, value))
    return found


def anchored_lines(path: Path) -> set[int]:
    """The lines of a file that could be read which hold an anchor, from 1."""
    with path.open("rb") as file:
        tokens = yaml.scan(_decoded(file.read(MOST_BYTES)), Loader=_Loader)
        return {token.start_mark.line + 1 for token in tokens if isinstance(token, yaml.AnchorToken)}


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Number of values in a node and their levels, with every alias written out.

    A few aliases of aliases stand for more values than any memory holds; PyYAML keeps them apart, those who
    read what it gives do not. Raises MarkedYAMLError where there are too many, or where a node holds itself.
    """
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise _bad(node, "holds itself")
        return known[id(node)]
    known[id(node)] = 0, 0
    parts = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.ScalarNode) and not _is_text(node.value):
        raise _bad(node, "half a surrogate pair, which is no text")
    found = [_measure(part, known) for part in parts]
    values, levels = 1 + sum(v for v, _ in found), 1 + max((lv for _, lv in found), default=0)
    if values > MOST_VALUES or levels > MOST_LEVELS:
        raise _bad(
            node, f"more than {MOST_VALUES} values or {MOST_LEVELS} levels with its aliases written out"
        )
    known[id(node)] = values, levels
    return values, levels


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bad(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if isinstance(error, _KeyError):
        return problem
    if "could not determine a constructor" in problem:
        tag = problem.rsplit(" ", 1)[-1].strip("'")
        return f"the tag {tag} is not allowed. Write plain values: texts, numbers, lists and mappings."
    if "'\\t'" in problem:
        return "got a tab; expected spaces, with which YAML indents. Replace the tabs."
    if "another document" in problem:
        return (
            "got a second document; expected one in a file. Remove `---` and what follows, or split the file."
        )
    context = f" ({error.context})" if error.context else ""
    if error.context and error.context_mark:
        context = f" ({error.context} that begins in line {error.context_mark.line + 1})"
    return f"not readable as YAML: {problem}{context}. Mend this line or the one before."

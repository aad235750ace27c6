"""Safe YAML to plain values; every error names the file with line and column."""

from __future__ import annotations

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

_NOT_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What PyYAML's constructors raise for a text that is none of their type, such as ``!!bool x``."""


class _DuplicateKeyError(yaml.MarkedYAMLError):
    """A key that stands twice in one mapping, of which YAML would silently take the last."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key stands once and ``1e-4`` is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, yaml.Mark] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key != "<<":
                if key in seen:
                    first = seen[key].line + 1
                    raise _DuplicateKeyError(
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


# YAML 1.1 takes 1e-4 for text, since it wants a point in a number; YAML 1.2 and every reader do not.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
            text = file.read(MOST_BYTES + 1).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text in UTF-8. Give a YAML file.") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}. Give a YAML file that can be read.") from None
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: not the name of a file ({error}). Give a YAML file.") from None
    return parse_yaml(text, place=str(path))


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
    if isinstance(error, _DuplicateKeyError):
        return problem
    if "could not determine a constructor" in problem:
        tag = problem.rsplit(" ", 1)[-1].strip("'")
        return f"the tag {tag} is not allowed. Write plain values: texts, numbers, lists and mappings."
    context = f" ({error.context})" if error.context else ""
    return f"not readable as YAML: {problem}{context}. Mend this line or the one before."

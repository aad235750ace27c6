"""Parses safe YAML to plain values; every error has the file, line and column."""

from __future__ import annotations

import codecs
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pbrlib.errors import ConfigError

MAX_BYTES = 128 * 1024
"""Maximum size of a file: ten times the largest curriculum; the parser takes seconds for this size."""

MAX_VALUES, MAX_LEVELS = 100_000, 50
"""Maximum number of values and of nested levels of a file after its aliases are expanded."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"

_CONSTRUCTOR_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""The errors that PyYAML's constructors raise for invalid text, such as ``!!bool x``."""


class _CompleteError(yaml.MarkedYAMLError):
    """An error of this module, whose text is a full sentence, unlike those of PyYAML."""


class _Constructor(yaml.constructor.SafeConstructor, yaml.resolver.Resolver):
    """A safe constructor that rejects duplicate keys and resolves scalars as in YAML 1.2.

    In YAML 1.1, which PyYAML follows, ``no`` is false, ``0200`` is 128, ``1:04`` is 64 and ``1e-4`` is text.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, yaml.Mark] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if key_node.tag == _TAG + "int" and value_node.tag == _TAG + "null":
                raise _CompleteError(
                    problem=f"got the number {key_node.value} as a key; expected a name. Write a decimal "
                    "fraction with a point: 0.002, not 0,002.",
                    problem_mark=key_node.start_mark,
                )
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    # PyYAML would silently use the last value.
                    first = seen[key].line + 1
                    raise _CompleteError(
                        problem=f"got the key {key!r} twice, first in line {first}; expected it once. "
                        "Remove one.",
                        problem_mark=key_node.start_mark,
                    )
                seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except _CONSTRUCTOR_ERRORS as error:
            raise _error_at(
                node, f"got an invalid value ({error}); expected one of its type. Correct it."
            ) from None
        if isinstance(value, int) and value.bit_length() > 64:
            raise _error_at(
                node, "got a whole number of more than 64 bits; expected a smaller one. Correct it."
            )
        return value


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    text: str = loader.construct_scalar(node).replace("_", "")
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
"""Patterns of booleans and numbers, and the characters with which they can begin."""

# PyYAML's resolvers of YAML 1.1 booleans and numbers are removed; null, dates and merge keys are kept.
_OWN = {_TAG + name for name in _SCALARS}
_Constructor.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _OWN]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _SCALARS.items():
    _Constructor.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


class _Loader(_Constructor, yaml.SafeLoader):
    """The parser in Python, whose errors name line, column and context."""


_FAST_BASE: Any = getattr(yaml, "CSafeLoader", None)
"""The parser of libyaml, ten times as fast; None where PyYAML was built without it."""

_Loader.add_constructor(_TAG + "int", _construct_int)

if _FAST_BASE is not None:

    class _FastLoader(_Constructor, _FAST_BASE):  # type: ignore[misc]
        """The parser in C. It recurses without a limit, so the levels of its text are counted before."""

    _FastLoader.add_constructor(_TAG + "int", _construct_int)


def parse_yaml(text: str, *, place: str) -> Any:
    """Parse safe YAML to plain values; raises ConfigError with line and column for other content."""
    if len(text) > MAX_BYTES:
        raise ConfigError(
            f"{place}: got more than {MAX_BYTES} bytes; expected a configuration. Give another file."
        )
    try:
        return _load(text)
    except RecursionError:
        raise ConfigError(
            f"{place}: got deeply nested values; expected at most {MAX_LEVELS} levels. Use fewer levels."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        raise ConfigError(f"{spot}: {_problem(error)}") from None
    except (yaml.YAMLError, *_CONSTRUCTOR_ERRORS) as error:
        raise ConfigError(
            f"{place}: not readable as YAML: {str(error).splitlines()[0]}. Correct the file."
        ) from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file; raises ConfigError if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = _decoded(content)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: got the byte 0x{content[error.start]:02x}; expected a text in UTF-8. Save the "
            "file in that encoding."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}). Give a readable YAML file."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: got an invalid file name ({error}). Give a YAML file.") from None
    return parse_yaml(text, place=str(path))


def _decoded(content: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark, or UTF-16 with one, as editors on Windows write it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def lines_of(path: Path) -> dict[str, int]:
    """Return the line of each address of a valid file, counted from 1; the empty address has line 1."""
    with path.open("rb") as file:
        loader = _Loader(_decoded(file.read(MAX_BYTES)))
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
        for name, start, value in parts:
            address = f"{above}.{name}" if above else name
            if address not in found:
                found[address] = start.start_mark.line + 1
                waiting.append((address, value))
    return found


def anchored_lines(path: Path) -> set[int]:
    """Return the lines of a valid file that have an anchor, counted from 1."""
    with path.open("rb") as file:
        tokens = yaml.scan(_decoded(file.read(MAX_BYTES)), Loader=_Loader)
        return {token.start_mark.line + 1 for token in tokens if isinstance(token, yaml.AnchorToken)}


def _load(text: str) -> Any:
    if _FAST_BASE is not None and "\t" not in text:  # libyaml accepts some tabs
        try:
            if _is_shallow(text):
                return _load_with(_FastLoader, text)
        except (yaml.YAMLError, *_CONSTRUCTOR_ERRORS):
            pass  # the parser in Python finds the same mistake and describes it better
    return _load_with(_Loader, text)


def _load_with(kind: Any, text: str) -> Any:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _is_shallow(text: str) -> bool:
    """Whether a text has at most ``MAX_LEVELS`` nested levels; raises YAMLError for text that is not YAML."""
    level = 0
    for event in yaml.parse(text, Loader=_FastLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
            if level > MAX_LEVELS:
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
    return True


def _count(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Count the values and levels of a node after all aliases are expanded.

    Nested aliases can expand to more values than fit in memory. PyYAML shares them, but later code does not.
    Raises MarkedYAMLError if there are too many values or levels, or if a node contains itself.
    """
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise _error_at(node, "got a value that contains itself; expected no cycle. Remove the alias.")
        return known[id(node)]
    known[id(node)] = 0, 0
    parts = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.ScalarNode) and not _is_text(node.value):
        raise _error_at(node, "got half of a surrogate pair; expected text. Remove it.")
    found = [_count(part, known) for part in parts]
    values, levels = 1 + sum(v for v, _ in found), 1 + max((lv for _, lv in found), default=0)
    if values > MAX_VALUES or levels > MAX_LEVELS:
        raise _error_at(
            node,
            f"got more than {MAX_VALUES} values or {MAX_LEVELS} levels with expanded aliases; expected "
            "fewer. Use fewer aliases.",
        )
    known[id(node)] = values, levels
    return values, levels


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _error_at(node: yaml.Node, problem: str) -> _CompleteError:
    return _CompleteError(problem=problem, problem_mark=node.start_mark)


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if isinstance(error, _CompleteError):
        return problem
    if "could not determine a constructor" in problem:
        tag = problem.rsplit(" ", 1)[-1].strip("'")
        return f"got the tag {tag}; expected plain values. Write texts, numbers, lists and mappings."
    if "'\\t'" in problem:
        return "got a tab; expected spaces for indentation. Replace the tabs."
    if "another document" in problem:
        return (
            "got a second document; expected one per file. Remove `---` and the text after it, or split "
            "the file."
        )
    context = f" ({error.context})" if error.context else ""
    if error.context and error.context_mark:
        context = f" ({error.context} that begins in line {error.context_mark.line + 1})"
    return f"not readable as YAML: {problem}{context}. Correct this line or the previous one."

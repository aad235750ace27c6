"""Safe YAML to plain values; every error names the file with line and column."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pbrlib.errors import ConfigError


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


# YAML 1.1 takes 1e-4 for text, since it wants a point in a number; YAML 1.2 and every reader do not.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, *, place: str) -> Any:
    """Safe YAML to plain values; raises ConfigError for anything else, with line and column."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        raise ConfigError(f"{spot}: {_problem(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"{place}: not readable as YAML: {str(error).splitlines()[0]}. Mend the file."
        ) from None


def read_yaml(path: Path) -> Any:
    """The content of a file; raises ConfigError when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text in UTF-8. Give a YAML file.") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}. Give a YAML file that can be read.") from None
    return parse_yaml(text, place=str(path))


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if isinstance(error, _DuplicateKeyError):
        return problem
    if "could not determine a constructor" in problem:
        tag = problem.rsplit(" ", 1)[-1].strip("'")
        return f"the tag {tag} is not allowed. Write plain values: texts, numbers, lists and mappings."
    context = f" ({error.context})" if error.context else ""
    return f"not readable as YAML: {problem}{context}. Mend this line or the one before."

"""YAML and ``--set`` overrides to frozen specs, and back; every mistake of a file is listed at once."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pbrlib.curriculum.mistakes import Mistake, explain, refuse, suggestion
from pbrlib.curriculum.spec import Curriculum, plain
from pbrlib.errors import ConfigError
from pbrlib.spec import Spec
from pbrlib.train.spec import RuntimeSpec

AnySpec = TypeVar("AnySpec", bound=Spec)


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


def load_curriculum(path: Path, *, overrides: Sequence[str] = ()) -> Curriculum:
    """Reads a curriculum and applies overrides such as ``phases.S1.crop=256``.

    Raises ConfigError with every mistake of the file and the overrides. What needs a network, a runtime
    or data to be seen is checked by :func:`pbrlib.curriculum.check.check`.
    """
    return _load(path, Curriculum, overrides)


def load_runtime(path: Path, *, overrides: Sequence[str] = ()) -> RuntimeSpec:
    """Reads a runtime file; raises ConfigError with every mistake."""
    return _load(path, RuntimeSpec, overrides)


def parse_curriculum(text: str, *, place: str = "the curriculum") -> Curriculum:
    """A curriculum from YAML text; ``place`` names it in errors."""
    return _validated(parse_yaml(text, place=place), Curriculum, place=place, earlier=[])


def dump_yaml(spec: Spec) -> str:
    """The whole spec with its defaults as YAML that loads to an equal spec."""
    text: str = yaml.safe_dump(plain(spec), sort_keys=False, allow_unicode=True, width=110)
    return text


def parse_yaml(text: str, *, place: str) -> Any:
    """Safe YAML to plain values; raises ConfigError for anything else, with line and column."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        raise ConfigError(f"{spot}: {_yaml_problem(error)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            f"{place}: not readable as YAML: {str(error).splitlines()[0]}. Mend the file."
        ) from None


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if isinstance(error, _DuplicateKeyError):
        return problem
    if "could not determine a constructor" in problem:
        tag = problem.rsplit(" ", 1)[-1].strip("'")
        return f"the tag {tag} is not allowed. Write plain values: texts, numbers, lists and mappings."
    context = f" ({error.context})" if error.context else ""
    return f"not readable as YAML: {problem}{context}. Mend this line or the one before."


def _load(path: Path, model: type[AnySpec], overrides: Sequence[str]) -> AnySpec:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text in UTF-8. Give a YAML file.") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}. Give a YAML file that can be read.") from None
    data = parse_yaml(text, place=str(path))
    mistakes = [] if not isinstance(data, dict) else _apply(data, overrides)
    return _validated(data, model, place=str(path), earlier=mistakes)


def _validated(data: Any, model: type[AnySpec], *, place: str, earlier: list[Mistake]) -> AnySpec:
    if not isinstance(data, dict):
        came = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{place}: {came} came where a mapping belongs. Give {_outline(model)}.")
    try:
        spec = model.model_validate(data)
    except ValidationError as error:
        refuse(place, [*earlier, *explain(error.errors(), model)])
        raise AssertionError("a validation error without errors") from error
    refuse(place, earlier)
    return spec


def _outline(model: type[Spec]) -> str:
    return ", ".join(f"{name}: ..." for name in model.model_fields)


def _apply(data: dict[Any, Any], overrides: Sequence[str]) -> list[Mistake]:
    """Writes overrides into raw data; returns the mistakes in their form."""
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
            value = parse_yaml(text, place="--set")
        except ConfigError:
            mistakes.append(
                Mistake(f"--set {address}", f"{text!r} is not a YAML value. Quote it as a whole.")
            )
            continue
        problem = _unknown_phase(data, parts) or _put(data, parts, value)
        if problem is not None:
            mistakes.append(Mistake(f"--set {address}", problem))
    return mistakes


def _unknown_phase(data: dict[Any, Any], parts: list[str]) -> str | None:
    """An override changes a phase, it does not invent one."""
    phases = data.get("phases")
    if parts[0] != "phases" or len(parts) < 2 or not isinstance(phases, dict) or parts[1] in phases:
        return None
    return f"there is no phase {parts[1]!r}. {suggestion(parts[1], map(str, phases))}"


def _put(data: dict[Any, Any], parts: list[str], value: Any) -> str | None:
    """Sets one value; unknown keys are left for validation to name."""
    here = data
    for depth, part in enumerate(parts[:-1]):
        child = here.get(part)
        if child is None:
            child = {}
        elif isinstance(child, int | float) and not isinstance(child, bool):
            child = {"weight": child}  # a bare number is shorthand for a weight
        if not isinstance(child, dict):
            return f"{'.'.join(parts[: depth + 1])} is {child!r}, which has no parts. Set it as a whole."
        here[part] = child
        here = child
    here[parts[-1]] = value
    return None

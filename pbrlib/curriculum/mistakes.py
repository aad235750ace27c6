"""Collects the mistakes of configuration files and reports them all at once.

The address of a value, such as ``phases.S1.loss.focal.gamma.stone``, is the same in YAML, in ``--set`` and in
errors.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pbrlib.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")


UNKNOWN_KEY = "unknown key"
"""Start of the message about an unknown key."""


@dataclass(frozen=True)
class Mistake:
    """One mistake: its address, and a message with the value found and the remedy."""

    address: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        text = f"{self.address}: {self.message}" if self.address else self.message
        return text if self.line is None else f"{text} (line {self.line})"


def raise_mistakes(place: str, mistakes: Sequence[Mistake]) -> None:
    """Raise one ConfigError that lists all mistakes; do nothing if there are none."""
    if not mistakes:
        return
    lines = dict.fromkeys(str(mistake) for mistake in mistakes)
    noun = "mistake" if len(lines) == 1 else "mistakes"
    raise ConfigError("\n  ".join([f"{len(lines)} {noun} in {place}:", *lines]))


def collect(action: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply an action to every item, such as a file, and collect their mistakes in one ConfigError."""
    results, errors = [], []
    for item in items:
        try:
            results.append(action(item))
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))
    return results


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return ``Did you mean `x`? Known: a, b, x.`` for an unknown word; the question needs a similar name."""
    names = list(known)
    if not names:
        return ""
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(word).lower(), lower, n=1, cutoff=0.6)
    guess = f"Did you mean `{lower[near[0]]}`? " if near else ""
    return f"{guess}Known: {', '.join(names)}."


def explain(errors: Sequence[ErrorDetails], root: type[BaseModel]) -> list[Mistake]:
    """Convert pydantic's errors about ``root`` to mistakes; addresses do not include the tags of unions."""
    located = [(error, *_locate(error["loc"], root)) for error in errors]
    addresses = [address for _, address, _, _ in located]
    mistakes: dict[str, list[str]] = {}
    for error, address, parent, here in located:
        # In a union without tags, the member with the deeper error is most likely the intended one.
        deeper = any(other.startswith(f"{address}.") for other in addresses)
        if not (deeper and error["type"] in _WRONG_TYPES):
            mistakes.setdefault(address, []).append(_sentence(error, parent=parent, here=here))
    return [Mistake(address, _joined(sentences)) for address, sentences in mistakes.items()]


_MAPPING_EXPECTED = {"model_type", "model_attributes_type", "dict_type", "mapping_type"}
_WRONG_TYPES = {
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    "string_type": "a text",
}
"""The expected kind of value by pydantic's error type."""


def _joined(sentences: Sequence[str]) -> str:
    """Merge the errors about one value into one sentence; each member of a union reports an error."""
    first, *others = dict.fromkeys(sentences)
    got, middle, wanted = first.partition("; expected ")
    start = got + middle
    options = [other.removeprefix(start) for other in others if other.startswith(start)]
    rest = [other for other in others if not other.startswith(start)]
    if options:
        first = start + " or ".join(text.removesuffix(".") for text in (wanted, *options)) + "."
    return " ".join([first, *rest])


def _sentence(error: ErrorDetails, *, parent: Any, here: Any) -> str:
    context = error.get("ctx", {})
    got = f"got {_short(error['input'])}"
    match error["type"]:
        case "extra_forbidden":
            return f"{UNKNOWN_KEY}. {suggestion(error['loc'][-1], _keys(parent))}".rstrip()
        case "missing":
            return f"missing; expected {_wanted(here)}."
        case "literal_error":
            choices = [str(choice) for choice in get_args(_plain(here))] or [str(context["expected"])]
            return f"{got}; expected one of the known values. {suggestion(error['input'], choices)}"
        case "union_tag_invalid":
            tag = context["tag"]
            return f"got kind: {tag}; expected a known kind. {suggestion(tag, _tags(here))}"
        case "union_tag_not_found":
            return f"got no `kind`; expected one of: {', '.join(_tags(here))}."
        case "value_error" | "assertion_error":
            return str(context.get("error", error["msg"]))
        case "string_pattern_mismatch":
            return f"{got}; expected a name of the form {context['pattern']}{_near_name(error['input'])}."
        case "too_short":
            return f"{got}; expected at least {context['min_length']}."
        case kind if kind in _MAPPING_EXPECTED:
            return f"{got}; expected {_wanted(here) if _keys(here) else 'a mapping'}."
        case kind if kind in _WRONG_TYPES:
            return f"{got}; expected {_WRONG_TYPES[kind]}.{_hint(error['input'])}"
        case kind if kind.startswith(("greater_than", "less_than")):
            return f"{got}; expected a number {error['msg'].removeprefix('Input should be ')}."
        case _:
            return f"{got}. {error['msg']}."


def _near_name(value: object) -> str:
    """Suggest a valid name that is similar to an invalid one."""
    plain = unicodedata.normalize("NFKD", str(value)).encode("ascii", "ignore").decode().lower()
    near = re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")
    return f", such as {near}" if near else ""


def _hint(value: object) -> str:
    """Suggest the value that a text of the wrong type probably means."""
    if not isinstance(value, str):
        return ""
    if re.search(r"\$\{?\w+", value):
        return " Environment variables are not expanded: set the value with --set."
    if re.fullmatch(r"\d+(?::\d+)+", value):
        return " Write one number, without colons."
    if re.fullmatch(r"-?\d+,\d+", value):
        return " Write a decimal point instead of the comma."
    if percent := re.fullmatch(r"(\d+(?:\.\d+)?) ?%", value):
        return f" Write a share: {float(percent[1]) / 100:g}."
    if number := re.fullmatch(r"(-?\d[\d.]*) ?[a-zA-Z]+", value):
        return f" Write the number alone: {number[1]}."
    if re.fullmatch(r"-?\d+(?:[ ']\d{3})+", value):
        digits = re.sub(r"[ ']", "", value)
        return f" Write the digits together: {digits}."
    return ""


def _short(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _wanted(annotation: Any) -> str:
    plain = _plain(annotation)
    if tags := _tags(plain):
        return f"a mapping with kind: {', '.join(tags)}"
    if get_origin(plain) is Literal:
        return "one of: " + ", ".join(str(choice) for choice in get_args(plain))
    if keys := _keys(plain, required=True) or _keys(plain):
        return "a mapping with " + ", ".join(keys)
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    known = [names[member] for member in _members(plain) if member in names]
    return " or ".join(known) or "a mapping"


def _locate(loc: Sequence[int | str], root: type[BaseModel]) -> tuple[str, Any, Any]:
    """Return the address of a location, the type of its parent and its own type (None if unknown)."""
    parts: list[str] = []
    parent: Any = None
    here: Any = root
    for element in loc:
        plain = _plain(here)
        if element == "[key]":
            continue
        if _is_union(plain):  # pydantic adds the member of the union to the location
            here = _member(plain, str(element))
            continue
        parts.append(str(element))
        parent, here = plain, _child(plain, str(element))
    return ".".join(parts), parent, here


def _plain(annotation: Any) -> Any:
    """Strip ``Annotated``, aliases and ``None`` from a type; a union of several types is kept."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        elif _is_union(annotation):
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _members(annotation: Any) -> list[Any]:
    plain = _plain(annotation)
    if not _is_union(plain):
        return [plain]
    return [leaf for member in get_args(plain) if member is not type(None) for leaf in _members(member)]


def _kind(member: Any) -> str | None:
    """Return the ``kind`` of a member of a discriminated union."""
    if not (isinstance(member, type) and issubclass(member, BaseModel) and "kind" in member.model_fields):
        return None
    choices = get_args(member.model_fields["kind"].annotation)
    return str(choices[0]) if choices else None


def _tags(annotation: Any) -> list[str]:
    return [tag for member in _members(annotation) if (tag := _kind(member)) is not None]


def _member(union: Any, tag: str) -> Any:
    """Return the member of a union that an element of a pydantic location names, or None."""
    for member in _members(union):
        if tag in (_kind(member), getattr(member, "__name__", None)):
            return member
    containers = [member for member in _members(union) if _value_type(member) is not None]
    return containers[0] if containers and "[" in tag else None


def _keys(annotation: Any, *, required: bool = False) -> list[str]:
    keys: dict[str, None] = {}
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            fields = member.model_fields.items()
            keys.update({name: None for name, field in fields if not required or field.is_required()})
    return list(keys)


def _value_type(annotation: Any) -> Any:
    """Return the type of a mapping's values or of a sequence's items; None for other types."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[1]
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return arguments[0]
    return None


def _child(annotation: Any, name: str) -> Any:
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel) and name in member.model_fields:
            hints: dict[str, Any] = typing.get_type_hints(member, include_extras=True)
            return hints.get(name)
        if (value := _value_type(member)) is not None:
            return value
    return None

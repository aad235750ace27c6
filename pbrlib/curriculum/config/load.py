"""Loads specs from files and ``--set`` overrides, and writes them; reports all mistakes of a file at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pbrlib.curriculum.config.overrides import apply, by_curriculum
from pbrlib.curriculum.config.yamlfile import anchored_lines, lines_of, parse_yaml, read_yaml
from pbrlib.curriculum.ladder import Ladder, LadderEntry, LadderSpec, in_waves, order_mistakes
from pbrlib.curriculum.mistakes import UNKNOWN_KEY, Mistake, collect, explain, raise_mistakes
from pbrlib.curriculum.spec import Curriculum, plain
from pbrlib.errors import ConfigError
from pbrlib.spec import Spec
from pbrlib.train.runtimespec import RuntimeSpec

_ANCHOR = (
    f"{UNKNOWN_KEY} for an anchor; expected the anchor at the first use of its value. Write crop: &crop 128 "
    "there, and crop: *crop at the others."
)

AnySpec = TypeVar("AnySpec", bound=Spec)


def load_curriculum(path: Path, *, overrides: Sequence[str] = ()) -> Curriculum:
    """Load a curriculum and apply overrides such as ``phases.S1.crop=256``.

    Raises ConfigError with every mistake of the file and the overrides. Checks that need networks, a runtime
    or data are in :func:`pbrlib.curriculum.check.curriculum.check`.
    """
    data = read_yaml(path)
    if is_ladder(data):
        raise ConfigError(f"{path}: got a ladder; expected a curriculum. Give one of the ladder's files.")
    return _build_spec(data, Curriculum, place=str(path), overrides=overrides, file=path)


def load_runtime(path: Path) -> RuntimeSpec:
    """Load a runtime file; raises ConfigError with every mistake."""
    return load_spec(path, RuntimeSpec)


def load_spec(path: Path, model: type[AnySpec]) -> AnySpec:
    """Load a spec, such as a search, from a file; raises ConfigError with every mistake."""
    return _build_spec(read_yaml(path), model, place=str(path), file=path)


def load_ladder(files: Sequence[Path], *, overrides: Sequence[str] = ()) -> Ladder:
    """Load the ladder that a command trains, from a ladder file or from the files of curricula.

    Without a ladder file, the curricula are ordered by their donors. The address of an override begins with
    the name of its curriculum, unless only one curriculum is given.

    Raises:
        ConfigError: Every mistake of every file and of the overrides.
    """
    contents = {file: _try_read(file) for file in files}
    ladders = [file for file, data in contents.items() if is_ladder(data)]
    if ladders and len(files) > 1:
        raise ConfigError(
            f"{ladders[0]}: got a ladder and other files; expected only the ladder, or curricula. Remove "
            "the other files."
        )
    if ladders:
        return _load_ladder(ladders[0], overrides)
    if len(files) == 1:
        return Ladder(((LadderEntry(files[0], load_curriculum(files[0], overrides=overrides)),),))
    entries = _load_entries([(_name_in(contents[file]), file) for file in files], overrides)
    if len({entry.curriculum.name for entry in entries}) < len(files):
        raise ConfigError(
            f"curricula: got the same name in two of {', '.join(map(str, files))}; expected different names. "
            "Rename one curriculum."
        )
    return in_waves(entries)


def is_ladder(data: Any) -> bool:
    """Return whether the content of a file is a ladder."""
    return isinstance(data, Mapping) and "waves" in data


def parse_curriculum(text: str) -> Curriculum:
    """Load a curriculum from YAML text; raises ConfigError with every mistake."""
    place = "the curriculum"
    return _build_spec(parse_yaml(text, place=place), Curriculum, place=place)


def dump_yaml(spec: Spec) -> str:
    """Return a spec with its defaults as YAML text, which loads to an equal spec."""
    text: str = yaml.safe_dump(plain(spec), sort_keys=False, allow_unicode=True, width=110)
    return text


def _try_read(file: Path) -> Any:
    """Return the content of a file, or None if it has mistakes, which loading reports later."""
    try:
        return read_yaml(file)
    except ConfigError:
        return None


def _name_in(data: Any) -> str:
    return str(data.get("name", "")) if isinstance(data, Mapping) else ""


def _load_ladder(file: Path, overrides: Sequence[str]) -> Ladder:
    spec = _build_spec(read_yaml(file), LadderSpec, place=str(file), file=file)
    named = [(name, file.parent / path) for wave in spec.waves for name, path in wave.items()]
    entries = dict(zip((name for name, _ in named), _load_entries(named, overrides), strict=True))
    ladder = Ladder(tuple(tuple(entries[name] for name in wave) for wave in spec.waves))
    misnamed = [
        Mistake(
            f"waves.{number}.{name}",
            f"got {name} for {entries[name].file}; expected the name in that file. "
            f"Use {entries[name].curriculum.name}.",
        )
        for number, wave in enumerate(spec.waves)
        for name in wave
        if entries[name].curriculum.name != name
    ]
    raise_mistakes(str(file), misnamed or order_mistakes(ladder))
    return ladder


def _load_entries(named: Sequence[tuple[str, Path]], overrides: Sequence[str]) -> list[LadderEntry]:
    """Load the curricula of several files, each with the overrides that begin with its name."""
    own, mistakes = by_curriculum(overrides, [name for name, _ in named])

    def read(item: tuple[str, Path] | None) -> LadderEntry | None:
        if item is None:
            raise_mistakes("the command line", mistakes)
            return None
        name, file = item
        return LadderEntry(file, load_curriculum(file, overrides=own[name]))

    return [entry for entry in collect(read, [*named, None]) if entry is not None]


def _build_spec(
    data: Any,
    model: type[AnySpec],
    *,
    place: str,
    overrides: Sequence[str] = (),
    file: Path | None = None,
) -> AnySpec:
    """Build a spec from raw data and overrides; raises ConfigError with the mistakes of both."""
    if not isinstance(data, dict):
        got = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{place}: got {got}; expected a mapping. Write {_outline(model)}.")
    earlier = apply(data, overrides)
    try:
        spec = model.model_validate(data)
    except ValidationError as error:
        mistakes = explain(error.errors(), model)
        raise_mistakes(
            place, [*earlier, *(mistakes if file is None else _with_lines(mistakes, file, overrides))]
        )
        raise AssertionError("a validation error without errors") from error
    raise_mistakes(place, earlier)
    return spec


def _with_lines(mistakes: Sequence[Mistake], file: Path, overrides: Sequence[str]) -> list[Mistake]:
    """Return the mistakes with their lines in the file; mistakes of overrides have no line."""
    lines, changed = lines_of(file), [override.partition("=")[0] for override in overrides]
    anchored = anchored_lines(file)
    found = []
    for mistake in mistakes:
        address = mistake.address
        if any(address == name or address.startswith(f"{name}.") for name in changed):
            found.append(mistake)
            continue
        while address not in lines:
            address = address.rpartition(".")[0]
        is_anchor = mistake.message.startswith(UNKNOWN_KEY) and lines[address] in anchored
        message = _ANCHOR if is_anchor else mistake.message
        found.append(replace(mistake, message=message, line=lines[address]))
    return found


def _outline(model: type[Spec]) -> str:
    return ", ".join(f"{name}: ..." for name in model.model_fields)

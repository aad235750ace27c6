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
from pbrlib.curriculum.mistakes import UNKNOWN_KEY, Mistake, every, explain, refuse
from pbrlib.curriculum.spec import Curriculum, plain
from pbrlib.errors import ConfigError
from pbrlib.spec import Spec
from pbrlib.train.runtimespec import RuntimeSpec

_ANCHOR = (
    f"{UNKNOWN_KEY} for an anchor; expected it at a value that is read. Write the anchor where the value "
    "stands first, crop: &crop 128, and crop: *crop from then on."
)

AnySpec = TypeVar("AnySpec", bound=Spec)


def load_curriculum(path: Path, *, overrides: Sequence[str] = ()) -> Curriculum:
    """Reads a curriculum and applies overrides such as ``phases.S1.crop=256``.

    Raises ConfigError with every mistake of the file and the overrides. What needs a network, a runtime
    or data to be seen is checked by :func:`pbrlib.curriculum.check.curriculum.check`.
    """
    data = read_yaml(path)
    if is_ladder(data):
        raise ConfigError(f"{path}: a ladder, where one curriculum belongs. Name one of its files.")
    return _built(data, Curriculum, place=str(path), overrides=overrides, file=path)


def load_runtime(path: Path) -> RuntimeSpec:
    """Reads a runtime file; raises ConfigError with every mistake."""
    return load_spec(path, RuntimeSpec)


def load_spec(path: Path, model: type[AnySpec]) -> AnySpec:
    """Reads a file of one spec, such as a search; raises ConfigError with every mistake."""
    return _built(read_yaml(path), model, place=str(path), file=path)


def load_ladder(files: Sequence[Path], *, overrides: Sequence[str] = ()) -> Ladder:
    """Reads what a command trains: the file of a ladder, or those of one or several curricula.

    Curricula without a ladder come as early as their donors allow. The address of an override begins with
    the name of its curriculum, unless the one file that is given is a curriculum's.

    Raises:
        ConfigError: Every mistake of every file and of the overrides.
    """
    glances = {file: _glance(file) for file in files}
    ladders = [file for file, data in glances.items() if is_ladder(data)]
    if ladders and len(files) > 1:
        raise ConfigError(
            f"{ladders[0]}: a ladder names all that it trains, and other files came beside it. Give it alone."
        )
    if ladders:
        return _load_ladder(ladders[0], overrides)
    if len(files) == 1:
        return Ladder(((LadderEntry(files[0], load_curriculum(files[0], overrides=overrides)),),))
    entries = _load_entries([(_name_in(glances[file]), file) for file in files], overrides)
    if len({entry.curriculum.name for entry in entries}) < len(files):
        raise ConfigError(f"two of {', '.join(map(str, files))} have one name. Rename one curriculum.")
    return in_waves(entries)


def is_ladder(data: Any) -> bool:
    """Return whether the content of a file is a ladder, not a curriculum."""
    return isinstance(data, Mapping) and "waves" in data


def parse_curriculum(text: str) -> Curriculum:
    """A curriculum from YAML text; raises ConfigError with every mistake."""
    place = "the curriculum"
    return _built(parse_yaml(text, place=place), Curriculum, place=place)


def dump_yaml(spec: Spec) -> str:
    """The whole spec with its defaults as YAML that loads to an equal spec."""
    text: str = yaml.safe_dump(plain(spec), sort_keys=False, allow_unicode=True, width=110)
    return text


def _glance(file: Path) -> Any:
    """The content of a file, or None; what is wrong with it is said when it is read in earnest."""
    try:
        return read_yaml(file)
    except ConfigError:
        return None


def _name_in(data: Any) -> str:
    return str(data.get("name", "")) if isinstance(data, Mapping) else ""


def _load_ladder(file: Path, overrides: Sequence[str]) -> Ladder:
    spec = _built(read_yaml(file), LadderSpec, place=str(file), file=file)
    named = [(name, file.parent / path) for wave in spec.waves for name, path in wave.items()]
    entries = dict(zip((name for name, _ in named), _load_entries(named, overrides), strict=True))
    ladder = Ladder(tuple(tuple(entries[name] for name in wave) for wave in spec.waves))
    misnamed = [
        Mistake(
            f"waves.{number}.{name}",
            f"{entries[name].file} holds the curriculum {entries[name].curriculum.name!r}. Call it so.",
        )
        for number, wave in enumerate(spec.waves)
        for name in wave
        if entries[name].curriculum.name != name
    ]
    refuse(str(file), misnamed or order_mistakes(ladder))
    return ladder


def _load_entries(named: Sequence[tuple[str, Path]], overrides: Sequence[str]) -> list[LadderEntry]:
    """The curricula of several files, each with the overrides that begin with its name."""
    own, mistakes = by_curriculum(overrides, [name for name, _ in named])

    def read(one: tuple[str, Path] | None) -> LadderEntry | None:
        if one is None:
            refuse("the command line", mistakes)
            return None
        name, file = one
        return LadderEntry(file, load_curriculum(file, overrides=own[name]))

    return [entry for entry in every(read, [*named, None]) if entry is not None]


def _built(
    data: Any,
    model: type[AnySpec],
    *,
    place: str,
    overrides: Sequence[str] = (),
    file: Path | None = None,
) -> AnySpec:
    """A spec from raw data with overrides; raises ConfigError with all mistakes of both."""
    if not isinstance(data, dict):
        came = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{place}: got {came}; expected a mapping. Write {_outline(model)}.")
    earlier = apply(data, overrides)
    try:
        spec = model.model_validate(data)
    except ValidationError as error:
        mistakes = explain(error.errors(), model)
        refuse(place, [*earlier, *(mistakes if file is None else _with_lines(mistakes, file, overrides))])
        raise AssertionError("a validation error without errors") from error
    refuse(place, earlier)
    return spec


def _with_lines(mistakes: Sequence[Mistake], file: Path, overrides: Sequence[str]) -> list[Mistake]:
    """The mistakes with their lines in the file; those of an override have none."""
    lines, changed = lines_of(file), [one.partition("=")[0] for one in overrides]
    anchored = anchored_lines(file)
    found = []
    for one in mistakes:
        place = one.address
        while place not in lines:
            place = place.rpartition(".")[0]
        overridden = any(one.address == name or one.address.startswith(f"{name}.") for name in changed)
        if overridden:
            found.append(one)
            continue
        is_anchor = one.message.startswith(UNKNOWN_KEY) and lines[place] in anchored
        message = _ANCHOR if is_anchor else one.message
        found.append(replace(one, message=message, line=lines[place]))
    return found


def _outline(model: type[Spec]) -> str:
    return ", ".join(f"{name}: ..." for name in model.model_fields)

"""A runs directory, a run or a phase's folder: what a path names, and the others that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pbrlib.errors import ConfigError, DataError
from pbrlib.inference.modelfile import is_model
from pbrlib.runs.record import is_run, phase_of, run_folders

_LEAST_PARTS = 3
"""Parts of the path of a run: a root or ``s3:``, a runs directory or bucket, and its own name."""


@dataclass(frozen=True)
class Located:
    """What a path leads to.

    Attributes:
        path: The path itself.
        run: The run that it is, or lies in; None of a directory of several.
        phase: The name of the phase whose folder it is, or lies in.
        folder: The folder of that phase.
    """

    path: Path
    run: Path | None = None
    phase: str | None = None
    folder: Path | None = None

    @property
    def root(self) -> Path:
        """The run, or the directory of several."""
        return self.run or self.path

    @property
    def runs(self) -> Path:
        """The runs directory."""
        return self.path if self.run is None else self.run.resolve().parent


def locate(path: Path) -> Located:
    """Find the run and the phase that a folder is or lies in; raises DataError where there is no folder."""
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder. {_near(path)}")
    if is_run(path):
        return Located(path, path)
    whole = path.resolve()
    for folder in whole.parents:
        if len(folder.parts) < _LEAST_PARTS:
            break
        if is_run(folder):
            own = folder / whole.parts[len(folder.parts)]
            phase = phase_of(own)
            return Located(path, folder, phase, own if phase else None)
    return Located(path)


def run_at(path: Path, *, usage: str) -> Path:
    """Return the run that a path is or lies in, or the only one of a runs directory.

    Args:
        path: As it was given.
        usage: The command, for an error that names the runs to choose from, as in ``pbr report``.

    Raises:
        ConfigError: It holds several runs.
        DataError: There is none.
    """
    located = locate(path)
    if located.run is not None:
        return located.run
    if is_model(located.path):
        raise DataError(f"{path}: is a model folder, no run. Name the run of one curriculum beside it.")
    found = run_folders(located.path)
    if not found:
        raise DataError(
            f"{path}: holds no run. Name RUNS/CURRICULUM below the directory given to pbr train --runs."
        )
    if len(found) > 1:
        names = ", ".join(str(one.relative_to(located.path)) for one in found)
        raise ConfigError(
            f"{path}: holds {len(found)} runs: {names}. Name one, as in `{usage} {path / found[0].name}`."
        )
    return found[0]


def report_at(path: Path) -> Path:
    """Return the run that a path is or lies in, or the runs directory that it is where that holds several.

    Raises:
        DataError: There is no run.
    """
    located = locate(path)
    several = located.run is None and not is_model(path) and len(run_folders(path)) > 1
    return path if several else run_at(path, usage="pbr report")


def networks_at(path: Path) -> Path:
    """Return the folder of trained networks that a path names: a model, or a runs directory.

    Of a run or a phase it is the runs directory around it, since the networks of the chain need each other.

    Raises:
        DataError: There is no such folder.
    """
    located = locate(path)
    return located.path if is_model(located.path) else located.runs


def _near(path: Path) -> str:
    """What to name in place of a folder that is not there."""
    above = path.resolve().parent
    beside = [one.name for one in above.iterdir() if one.is_dir()] if above.is_dir() else []
    near = get_close_matches(path.name, beside, n=1)
    if near:
        return f"Did you mean {above / near[0]}?"
    return "Name the directory given to pbr train --runs, or a folder in it."

"""Finds the runs directory, the run and the phase that a path belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pbrlib.errors import ConfigError, DataError
from pbrlib.inference.modelfile import is_model
from pbrlib.runs.record import is_run, phase_of, run_folders

_LEAST_PARTS = 3
"""Minimum number of parts of a run's path: root or ``s3:``, runs directory or bucket, name of the run."""


@dataclass(frozen=True)
class RunLocation:
    """The run and the phase that a path belongs to.

    Attributes:
        path: The path.
        run: The folder of the run; None for a runs directory.
        phase: The name of the phase; None if the path is not in the folder of a phase.
        folder: The folder of the phase.
    """

    path: Path
    run: Path | None = None
    phase: str | None = None
    folder: Path | None = None

    @property
    def root(self) -> Path:
        """The run, or the runs directory."""
        return self.run or self.path

    @property
    def runs(self) -> Path:
        """The runs directory."""
        return self.path if self.run is None else self.run.resolve().parent


def locate(path: Path) -> RunLocation:
    """Find the run and the phase that a folder belongs to; raises DataError if it does not exist."""
    if not path.is_dir():
        raise DataError(f"{path}: got a path that does not exist; expected a folder. {_similar(path)}")
    if is_run(path):
        return RunLocation(path, path)
    resolved = path.resolve()
    for folder in resolved.parents:
        if len(folder.parts) < _LEAST_PARTS:
            break
        if is_run(folder):
            own = folder / resolved.parts[len(folder.parts)]
            phase = phase_of(own)
            return RunLocation(path, folder, phase, own if phase else None)
    return RunLocation(path)


def run_at(path: Path, *, usage: str) -> Path:
    """Return the run that a path belongs to, or the only run of a runs directory.

    Args:
        path: The path on the command line.
        usage: The command, such as ``pbr report``, for the example in the error.

    Raises:
        ConfigError: The directory has several runs.
        DataError: The directory has no run.
    """
    located = locate(path)
    if located.run is not None:
        return located.run
    if is_model(located.path):
        raise DataError(f"{path}: got a model folder; expected a run. Give RUNS/CURRICULUM beside it.")
    found = run_folders(located.path)
    if not found:
        raise DataError(
            f"{path}: got a folder without runs; expected a run. Give RUNS/CURRICULUM, where RUNS is the "
            "--runs directory of pbr train."
        )
    if len(found) > 1:
        names = ", ".join(str(folder.relative_to(located.path)) for folder in found)
        raise ConfigError(
            f"{path}: got {len(found)} runs ({names}); expected one. Give one, as in "
            f"`{usage} {path / found[0].name}`."
        )
    return found[0]


def report_at(path: Path) -> Path:
    """Return the run that a path belongs to, or a runs directory with several runs.

    Raises:
        DataError: The directory has no run.
    """
    located = locate(path)
    several = located.run is None and not is_model(path) and len(run_folders(path)) > 1
    return path if several else run_at(path, usage="pbr report")


def networks_at(path: Path) -> Path:
    """Return the folder of trained networks that a path belongs to: a model folder or a runs directory.

    For a run or a phase, this is its runs directory, since the networks of a chain need each other.

    Raises:
        DataError: The folder does not exist.
    """
    located = locate(path)
    return located.path if is_model(located.path) else located.runs


def _similar(path: Path) -> str:
    """Return a hint for a missing folder: the folder with the most similar name."""
    above = path.resolve().parent
    siblings = [folder.name for folder in above.iterdir() if folder.is_dir()] if above.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1)
    if near:
        return f"Did you mean {above / near[0]}?"
    return "Give the --runs directory of pbr train, or a folder in it."

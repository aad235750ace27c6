"""Reads a run from its folder: its phases, their journals and its current state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pbrlib.curriculum.config.yamlfile import read_yaml
from pbrlib.curriculum.spec import default_select
from pbrlib.errors import ConfigError, DataError, PbrError
from pbrlib.inference.modelfile import is_model
from pbrlib.runs.jsonfile import read_leniently
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.train.record.incidents import FAILURE
from pbrlib.train.record.rundirectory import CURRICULUM, LADDER, RECORD, FinishedPhase, RunDirectory
from pbrlib.train.runtimespec import Selection

STALE_S = 60.0
"""Seconds after which a command counts as ended, as a running one writes ladder.json every few seconds."""
QUIET_S = 600.0
"""Seconds without output after which a phase without ladder.json counts as not training."""

RunState = Literal["training", "stopped", "lost", "waiting", "finished"]
"""``lost``: not finished, and no process writes to it any more; ``waiting``: some phases have not started."""

_PHASE_FOLDER = re.compile(r"^(?P<phase>.+)-(?P<print>[0-9a-f]{8})$")


@dataclass(frozen=True)
class Run:
    """A run: the training of one curriculum, read from its folder.

    Attributes:
        path: The folder of the run.
        declared: The resolved curriculum as plain data; empty if the file is missing.
        folders: The folders of all phases, including those with older fingerprints.
        finished: The record of each finished phase.
        ladder: The entries of ``ladder.json`` by phase.
        stamp: Unix time at which ``ladder.json`` was written.
    """

    path: Path
    declared: Mapping[str, Any]
    folders: tuple[PhaseFolder, ...]
    finished: Mapping[str, FinishedPhase]
    ladder: Mapping[str, Mapping[str, Any]]
    stamp: float

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a run; raises DataError if the folder has none."""
        if not is_run(path):
            raise DataError(
                f"{path}: got a folder without {RECORD} and {CURRICULUM}; expected a run. Give "
                "RUNS/<curriculum>, where RUNS is the --runs directory of pbr train; `pbr runs RUNS` "
                "lists the runs."
            )
        path = path.resolve()
        declared = read_yaml(path / CURRICULUM) if (path / CURRICULUM).is_file() else {}
        if not isinstance(declared, Mapping):
            raise ConfigError(
                f"{path / CURRICULUM}: got a file that is not a mapping; expected a curriculum. Remove the "
                "file, or train again."
            )
        finished = RunDirectory(path.parent, name=path.name).phases()
        content = read_leniently(path.parent / LADDER)
        ladder = {
            entry["phase"]: entry
            for entry in content.get("phases", ())
            if entry.get("curriculum") == path.name
        }
        names = [*declared.get("phases", {}), *finished]
        found = [
            _folder(folder, phase, declared=declared, finished=finished, ladder=ladder)
            for folder in sorted(path.iterdir())
            if folder.is_dir() and (phase := phase_of(folder))
        ]
        order = {name: number for number, name in reversed(list(enumerate(names)))}
        found.sort(key=lambda folder: (order.get(folder.phase, len(names)), folder.last_written))
        return cls(path, declared, tuple(found), finished, ladder, _seconds(content.get("updated")))

    @property
    def name(self) -> str:
        """The name of the curriculum."""
        return self.path.name

    @property
    def phases(self) -> tuple[str, ...]:
        """The names of the phases, in the order of the curriculum."""
        return tuple(self.declared.get("phases", {})) or tuple(self.finished)

    def current(self, phase: str) -> PhaseFolder | None:
        """Return the most recently written folder of a phase; None if there is none."""
        own = [folder for folder in self.folders if folder.phase == phase]
        return max(own, key=lambda folder: folder.last_written, default=None)

    def state_of(self, phase: str, *, now: float) -> RunState:
        """Return the state of a phase."""
        folder, entry = self.current(phase), self.ladder.get(phase, {})
        claims = entry.get("state") == "training"
        if claims and now - self.stamp < STALE_S:
            return "training"
        if folder is None:
            return "stopped" if entry.get("state") == "stopped" else "waiting"
        if folder.done is not None:
            return "stopped" if _closed(folder.done) else "finished"
        if (entry.get("state") == "stopped" and self.stamp >= folder.last_written - STALE_S) or (
            folder.last_entry == "stopped"
        ):
            return "stopped"
        quiet_s = STALE_S if claims else QUIET_S
        return "training" if now - folder.last_written < quiet_s else "lost"

    def state(self, *, now: float) -> RunState:
        """Return the state of the run."""
        states = {self.state_of(phase, now=now) for phase in self.phases}
        order: Sequence[RunState] = ("training", "stopped", "lost", "waiting")
        return next((state for state in order if state in states), "finished")

    def shown_phase(self, *, now: float) -> str | None:
        """Return the phase that determines the state of the run; of a finished run, the last phase."""
        state = self.state(now=now)
        if state == "waiting":
            started = [phase for phase in self.phases if self.current(phase) is not None]
            return started[-1] if started else next(iter(self.phases), None)
        matching = [phase for phase in self.phases if self.state_of(phase, now=now) == state]
        return matching[-1] if matching else None

    def reason(self, phase: str) -> str | None:
        """Return the reason why a phase stopped; None if it is unknown."""
        folder = self.current(phase)
        if folder is not None and folder.done is not None and _closed(folder.done):
            return "it did not pass its gate"
        failure = {} if folder is None else read_leniently(folder.path / FAILURE)
        return failure.get("message") or self.ladder.get(phase, {}).get("error")

    @property
    def last_written(self) -> float:
        """Unix time of the last write to the run."""
        files = [self.path / name for name in (RECORD, CURRICULUM)]
        own = [file.stat().st_mtime for file in files if file.exists()]
        return max([*own, *(folder.last_written for folder in self.folders)])


def is_run(path: Path) -> bool:
    """Return whether a folder is the folder of a run."""
    return (path / RECORD).is_file() or (path / CURRICULUM).is_file()


def phase_of(folder: Path) -> str | None:
    """Return the phase of a folder named ``<phase>-<fingerprint>``; None for other names."""
    match = _PHASE_FOLDER.match(folder.name)
    return None if match is None else match["phase"]


def find_runs(root: Path) -> list[Run]:
    """Return all runs under a directory, which may itself be a run; raises DataError if there are none."""
    if not root.is_dir():
        raise DataError(
            f"{root}: got a path that does not exist; expected a runs directory. Give the --runs "
            "directory of pbr train."
        )
    runs, broken = [], []
    for folder in run_folders(root):
        try:
            runs.append(Run.open(folder))
        except PbrError as error:
            broken.append(str(error))
    if broken:
        raise DataError("\n".join(broken))
    if not runs:
        raise DataError(
            f"{root}: got a directory without runs; expected a runs directory. Give the --runs "
            "directory of pbr train."
        )
    return runs


def run_folders(root: Path) -> list[Path]:
    """Return the folders of all runs under a directory, including itself; model folders are left out."""
    found: list[Path] = []
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            if is_run(folder) and not is_model(folder):
                found.append(folder)
            elif not is_model(folder):
                waiting += sorted(_folders_in(folder), reverse=True)
        except (PermissionError, FileNotFoundError):  # no permission, or removed since it was listed
            continue
    return found


def in_ladder_order(runs: Sequence[Run], *, root: Path) -> list[Run]:
    """Sort runs in the order of ``ladder.json``; runs that are not in it come last."""
    entries = read_leniently(root / LADDER).get("phases", ())
    names = list(dict.fromkeys(entry.get("curriculum") for entry in entries))
    return sorted(runs, key=lambda run: names.index(run.name) if run.name in names else len(names))


def _folders_in(folder: Path) -> list[Path]:
    """Return the subfolders that may contain runs, without hidden folders and links."""
    below = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [path for path in below if path.is_dir() and not path.is_symlink()]


def _folder(
    path: Path,
    phase: str,
    *,
    declared: Mapping[str, Any],
    finished: Mapping[str, FinishedPhase],
    ladder: Mapping[str, Mapping[str, Any]],
) -> PhaseFolder:
    done = finished.get(phase)
    own = done if done is not None and Path(done.checkpoint).parts[0] == path.name else None
    return PhaseFolder(path, phase, _select(phase, declared, ladder.get(phase, {}), done), own)


def _select(
    phase: str, declared: Mapping[str, Any], entry: Mapping[str, Any], done: FinishedPhase | None
) -> Selection | None:
    """Return the selection metric of a phase, from curriculum, ladder or task; None if unknown."""
    spec = declared.get("phases", {}).get(phase, {}).get("select")
    if isinstance(spec, Mapping) and spec.keys() == {"metric", "mode"}:
        return Selection(**spec)
    if "metric" in entry and "mode" in entry:
        return Selection(metric=entry["metric"], mode=entry["mode"])
    kinds = {name.split("/")[2] for name in (done.metrics if done else {}) if name.startswith("val/all/")}
    return default_select(kinds.pop()) if len(kinds) == 1 else None


def _closed(done: FinishedPhase) -> bool:
    gate = done.gate or {"passed": True}
    return not gate["passed"] and gate.get("forced") is None


def _seconds(stamp: str | None) -> float:
    try:
        return datetime.fromisoformat(stamp or "").timestamp()
    except ValueError:
        return 0.0

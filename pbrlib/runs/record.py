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
"""Where no ladder.json tells, a phase that has written nothing for so long is not training."""

RunState = Literal["training", "stopped", "lost", "waiting", "finished"]
"""``lost``: said to be training, but nobody writes; ``waiting``: a phase is still to come."""

_PHASE_FOLDER = re.compile(r"^(?P<phase>.+)-(?P<print>[0-9a-f]{8})$")


@dataclass(frozen=True)
class Run:
    """One curriculum's folder.

    ``declared`` is the resolved curriculum as plain data, empty where it is missing; ``folders`` are those of
    all its phases, with other fingerprints too; ``rungs`` is what ``ladder.json`` says of its phases,
    written at ``stamp``.
    """

    path: Path
    declared: Mapping[str, Any]
    folders: tuple[PhaseFolder, ...]
    finished: Mapping[str, FinishedPhase]
    rungs: Mapping[str, Mapping[str, Any]]
    stamp: float

    @classmethod
    def open(cls, path: Path) -> Run:
        """Reads a run; raises DataError where a folder holds none."""
        if not is_run(path):
            raise DataError(
                f"{path}: no run; there is neither {RECORD} nor {CURRICULUM}. "
                "Name RUNS/<curriculum>, below what was given to pbr train --runs; `pbr runs DIR` lists them."
            )
        path = path.resolve()
        declared = read_yaml(path / CURRICULUM) if (path / CURRICULUM).is_file() else {}
        if not isinstance(declared, Mapping):
            raise ConfigError(f"{path / CURRICULUM}: not a curriculum. Remove it, or train again.")
        finished = RunDirectory(path.parent, name=path.name).phases()
        ladder = read_leniently(path.parent / LADDER)
        rungs = {one["phase"]: one for one in ladder.get("phases", ()) if one.get("curriculum") == path.name}
        names = [*declared.get("phases", {}), *finished]
        found = [
            _folder(folder, phase, declared=declared, finished=finished, rungs=rungs)
            for folder in sorted(path.iterdir())
            if folder.is_dir() and (phase := phase_of(folder))
        ]
        order = {name: number for number, name in reversed(list(enumerate(names)))}
        found.sort(key=lambda one: (order.get(one.phase, len(names)), one.last_written))
        return cls(path, declared, tuple(found), finished, rungs, _seconds(ladder.get("updated")))

    @property
    def name(self) -> str:
        """Of the curriculum."""
        return self.path.name

    @property
    def phases(self) -> tuple[str, ...]:
        """In the order of the curriculum."""
        return tuple(self.declared.get("phases", {})) or tuple(self.finished)

    def current(self, phase: str) -> PhaseFolder | None:
        """The folder of a phase that wrote last."""
        own = [one for one in self.folders if one.phase == phase]
        return max(own, key=lambda one: one.last_written, default=None)

    def state_of(self, phase: str, *, now: float) -> RunState:
        """What a phase is doing."""
        folder, rung = self.current(phase), self.rungs.get(phase, {})
        claims = rung.get("state") == "training"
        if claims and now - self.stamp < STALE_S:
            return "training"
        if folder is None:
            return "stopped" if rung.get("state") == "stopped" else "waiting"
        if folder.done is not None:
            return "stopped" if _closed(folder.done) else "finished"
        if (rung.get("state") == "stopped" and self.stamp >= folder.last_written - STALE_S) or (
            folder.last_entry == "stopped"
        ):
            return "stopped"
        quiet_s = STALE_S if claims else QUIET_S
        return "training" if now - folder.last_written < quiet_s else "lost"

    def state(self, *, now: float) -> RunState:
        """What the run is doing."""
        states = {self.state_of(phase, now=now) for phase in self.phases}
        order: Sequence[RunState] = ("training", "stopped", "lost", "waiting")
        return next((state for state in order if state in states), "finished")

    def shown_phase(self, *, now: float) -> str | None:
        """The phase that its state is about; the last one of a finished run."""
        state = self.state(now=now)
        if state == "waiting":
            begun = [phase for phase in self.phases if self.current(phase) is not None]
            return begun[-1] if begun else next(iter(self.phases), None)
        matching = [phase for phase in self.phases if self.state_of(phase, now=now) == state]
        return matching[-1] if matching else None

    def reason(self, phase: str) -> str | None:
        """What stopped a phase, where something tells."""
        folder = self.current(phase)
        if folder is not None and folder.done is not None and _closed(folder.done):
            return "its gate is closed"
        failure = {} if folder is None else read_leniently(folder.path / FAILURE)
        return failure.get("message") or self.rungs.get(phase, {}).get("error")

    @property
    def last_written(self) -> float:
        """When it wrote last, in seconds of the clock of day."""
        files = [self.path / name for name in (RECORD, CURRICULUM)]
        own = [file.stat().st_mtime for file in files if file.exists()]
        return max([*own, *(folder.last_written for folder in self.folders)])


def is_run(path: Path) -> bool:
    """Return whether a folder is the folder of a run."""
    return (path / RECORD).is_file() or (path / CURRICULUM).is_file()


def phase_of(folder: Path) -> str | None:
    """The name of the phase whose folder this is by its name, ``<phase>-<fingerprint>``."""
    match = _PHASE_FOLDER.match(folder.name)
    return None if match is None else match["phase"]


def find_runs(root: Path) -> list[Run]:
    """Return all runs under a directory, or the run that it is; raises DataError if there are none."""
    if not root.is_dir():
        raise DataError(f"{root}: no such directory. Name the one given to pbr train --runs.")
    runs, broken = [], []
    for folder in run_folders(root):
        try:
            runs.append(Run.open(folder))
        except PbrError as error:
            broken.append(str(error))
    if broken:
        raise DataError("\n".join(broken))
    if not runs:
        raise DataError(f"{root}: holds no run. Name the directory given to pbr train --runs.")
    return runs


def run_folders(root: Path) -> list[Path]:
    """The folders of all runs under a directory, itself among them; those in a model are none."""
    found: list[Path] = []
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            if is_run(folder) and not is_model(folder):
                found.append(folder)
            elif not is_model(folder):
                waiting += sorted(_folders_in(folder), reverse=True)
        except (PermissionError, FileNotFoundError):  # of somebody else, or gone since it was listed
            continue
    return found


def in_ladder_order(runs: Sequence[Run], *, root: Path) -> list[Run]:
    """Return runs as the ladder of their directory trains them, those of no ladder after them."""
    entries = read_leniently(root / LADDER).get("phases", ())
    names = list(dict.fromkeys(one.get("curriculum") for one in entries))
    return sorted(runs, key=lambda run: names.index(run.name) if run.name in names else len(names))


def _folders_in(folder: Path) -> list[Path]:
    """Those that may hold runs."""
    below = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [path for path in below if path.is_dir() and not path.is_symlink()]


def _folder(
    path: Path,
    phase: str,
    *,
    declared: Mapping[str, Any],
    finished: Mapping[str, FinishedPhase],
    rungs: Mapping[str, Mapping[str, Any]],
) -> PhaseFolder:
    done = finished.get(phase)
    own = done if done is not None and Path(done.checkpoint).parts[0] == path.name else None
    return PhaseFolder(path, phase, _select(phase, declared, rungs.get(phase, {}), done), own)


def _select(
    phase: str, declared: Mapping[str, Any], rung: Mapping[str, Any], done: FinishedPhase | None
) -> Selection | None:
    """What judges a phase: by its curriculum, by the ladder, or by what its task is judged by."""
    spec = declared.get("phases", {}).get(phase, {}).get("select")
    if isinstance(spec, Mapping) and spec.keys() == {"metric", "mode"}:
        return Selection(**spec)
    if "metric" in rung and "mode" in rung:
        return Selection(metric=rung["metric"], mode=rung["mode"])
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

"""Finds and removes checkpoints that are neither best nor last and that no other network depends on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pbrlib import storage
from pbrlib.curriculum.references import CheckpointPath, parse_donor
from pbrlib.errors import DataError
from pbrlib.inference.modelfile import FILE_NAME
from pbrlib.runs.jsonfile import read_strictly
from pbrlib.runs.phasefolder import PhaseFolder
from pbrlib.runs.record import QUIET_S, Run, find_runs
from pbrlib.train.checkpoint.state import STATE, UNFINISHED, checkpoints
from pbrlib.train.record.rundirectory import MODEL


@dataclass(frozen=True)
class Found:
    """A folder that is removed or kept, with the reason."""

    path: Path
    bytes: int
    reason: str


@dataclass(frozen=True)
class Pruning:
    """The folders to remove, and the folders that are kept for a reason to report."""

    goes: tuple[Found, ...]
    stays: tuple[Found, ...]

    def within(self, folder: Path) -> Pruning:
        """What goes and stays of one folder: a run, a phase, or all."""
        goes = tuple(one for one in self.goes if one.path.is_relative_to(folder))
        return Pruning(goes, tuple(one for one in self.stays if one.path.is_relative_to(folder)))

    @property
    def bytes(self) -> int:
        """What going frees."""
        return sum(one.bytes for one in self.goes)


def plan_pruning(root: Path, *, now: float) -> Pruning:
    """Decide for every checkpoint under a directory whether it may be removed; removes nothing.

    Raises DataError where a file that may name donors cannot be read.
    """
    runs = find_runs(root)
    used, named = _fingerprints_in_use(runs), _named_paths(runs)
    trains = [run for run in runs if any(_runs(run, folder, now=now) for folder in run.folders)]
    goes: list[Found] = []
    stays: list[Found] = []
    for run in runs:
        for folder in run.folders:
            for path, verdict in _verdicts(run, folder, used=used, trains=trains, now=now):
                if verdict is None or path.is_symlink():
                    continue
                keeps, reason = verdict
                if not keeps and not path.resolve().is_relative_to(root.resolve()):
                    keeps, reason = True, f"a link leads to it, out of {root}"
                if not keeps and _is_named(path, named):
                    keeps, reason = True, "a curriculum names its path"
                (stays if keeps else goes).append(Found(path, _size(path), reason))
    return Pruning(tuple(goes), tuple(stays))


def delete(pruning: Pruning) -> None:
    """Remove the folders of a plan; raises DataError if one cannot be removed."""
    for found in pruning.goes:
        try:
            storage.remove_folder(found.path, first=STATE)
        except OSError as error:
            raise DataError(
                f"{found.path}: cannot be removed ({error.strerror}). Look at its owner; what is left stays."
            ) from error


def _verdicts(
    run: Run, folder: PhaseFolder, *, used: Collection[str], trains: Sequence[Run], now: float
) -> Iterator[tuple[Path, tuple[bool, str] | None]]:
    """Every checkpoint of a phase's folder: whether it stays, and why; None for what needs no word."""
    every = checkpoints(folder.path)
    if _runs(run, folder, now=now):
        yield from ((path, (True, "the phase is training")) for path in every)
        return
    partial = [path for path in folder.path.glob("checkpoint_*") if path.is_dir() and path not in every]
    for path in (*folder.path.glob(f"{UNFINISHED}*"), *partial):
        yield path, (False, "was never finished")
    keep = {path for path in (_best(run, folder), *every[-1:]) if path is not None}
    prints = {_state(path).get("fingerprint") for path in every}
    if not _superseded(run, folder):
        # The newest checkpoint of an unfinished phase may prove damaged, so the one before it is kept too.
        kept = keep if folder.done is not None else keep | {*every[-2:]}
        yield from ((path, None if path in kept else (False, "neither best nor last")) for path in every)
    elif prints & set(used):
        yield from (
            (path, (True, "a donor in use") if path in keep else (False, "neither best nor last"))
            for path in every
        )
    elif trains:
        reason = f"superseded, but {', '.join(one.name for one in trains)} trains and may read it"
        yield from ((path, (True, reason)) for path in every)
    else:
        yield from ((path, (False, f"superseded: {folder.phase} was trained again")) for path in every)


def _superseded(run: Run, folder: PhaseFolder) -> bool:
    """Return whether the same phase was finished later in another folder."""
    if folder.done is not None or folder.phase not in run.finished:
        return False
    owner = next((one for one in run.folders if one.phase == folder.phase and one.done is not None), None)
    return owner is not None and owner.last_written > folder.last_written


def _runs(run: Run, folder: PhaseFolder, *, now: float) -> bool:
    """Return whether a process may be writing to the folder; True if unsure."""
    if folder.done is not None:
        return False
    is_current = run.current(folder.phase) == folder
    if is_current and run.state_of(folder.phase, now=now) == "training":
        return True
    return folder.last_entry not in ("stopped", "ended") and now - folder.last_written < QUIET_S


def _best(run: Run, folder: PhaseFolder) -> Path | None:
    """Return the best existing checkpoint, by the run's record or else by the checkpoints' metrics."""
    if folder.done is not None:
        return run.path / folder.done.checkpoint
    select = folder.select
    if select is None:
        return None
    measured = [(path, _state(path).get("metrics", {})) for path in checkpoints(folder.path)]
    known = [
        (select.score(metrics), str(path), path) for path, metrics in measured if select.metric in metrics
    ]
    return max(known)[2] if known else None


def _fingerprints_in_use(runs: Sequence[Run]) -> set[str]:
    """Of the networks that some trained network here stands behind, and of those of model folders."""
    used: set[str] = set()
    for run in runs:
        for folder in run.folders:
            for path in checkpoints(folder.path):
                used |= set(_state(path).get("frozen", {}).values())
    for parent in {run.path.parent for run in runs}:
        for network in read_strictly(parent / MODEL / FILE_NAME).get("networks", {}).values():
            used |= {network.get("fingerprint"), *network.get("frozen", {}).values()}
    return {one for one in used if one}


def _is_named(path: Path, named: Collection[Path]) -> bool:
    """Whether one of the paths may mean this checkpoint.

    A relative one counts from where `pbr train` was started, which nobody knows here; so the name of the
    phase's folder and of the checkpoint decide.
    """
    return any(path.parts[-2:][-len(place.parts) :] == place.parts[-2:] for place in named)


def _named_paths(runs: Sequence[Run]) -> set[Path]:
    """Return the checkpoints that curricula name by path, as donors or frozen networks."""
    found: set[Path] = set()
    for run in runs:
        task = run.declared.get("task", {})
        references = [task.get(name) for name in ("segformer", "albedo")]
        references += [phase.get("starts_from") for phase in run.declared.get("phases", {}).values()]
        for reference in filter(None, references):
            if isinstance(donor := parse_donor(str(reference)), CheckpointPath):
                found.add(Path(donor.path))
    return found


def _state(path: Path) -> dict[str, Any]:
    return read_strictly(path / STATE)


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())

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
class PrunedFolder:
    """A folder that is removed or kept, with the reason."""

    path: Path
    bytes: int
    reason: str


@dataclass(frozen=True)
class Pruning:
    """The folders to remove, and the folders that are kept for a reason to report."""

    removed: tuple[PrunedFolder, ...]
    kept: tuple[PrunedFolder, ...]

    def within(self, folder: Path) -> Pruning:
        """Return the part of the plan that is in a folder, such as a run or a phase."""
        removed = tuple(item for item in self.removed if item.path.is_relative_to(folder))
        return Pruning(removed, tuple(item for item in self.kept if item.path.is_relative_to(folder)))

    @property
    def bytes(self) -> int:
        """The number of bytes in the folders to remove."""
        return sum(item.bytes for item in self.removed)


def plan_pruning(root: Path, *, now: float) -> Pruning:
    """Decide for every checkpoint under a directory whether it is removed or kept; removes nothing.

    Raises DataError if a file that may refer to donors cannot be read.
    """
    runs = find_runs(root)
    used, named = _fingerprints_in_use(runs), _named_paths(runs)
    training = [run for run in runs if any(_may_be_training(run, folder, now=now) for folder in run.folders)]
    removed: list[PrunedFolder] = []
    kept: list[PrunedFolder] = []
    for run in runs:
        for folder in run.folders:
            for path, verdict in _verdicts(run, folder, used=used, training=training, now=now):
                if verdict is None or path.is_symlink():
                    continue
                keeps, reason = verdict
                if not keeps and not path.resolve().is_relative_to(root.resolve()):
                    keeps, reason = True, f"it is a link to a folder outside of {root}"
                if not keeps and _is_named(path, named):
                    keeps, reason = True, "a curriculum refers to its path"
                (kept if keeps else removed).append(PrunedFolder(path, _size(path), reason))
    return Pruning(tuple(removed), tuple(kept))


def delete(pruning: Pruning) -> None:
    """Remove the folders of a plan; raises DataError if one cannot be removed."""
    for found in pruning.removed:
        try:
            storage.remove_folder(found.path, first=STATE)
        except OSError as error:
            raise DataError(
                f"{found.path}: cannot be removed ({error.strerror}). Check its permissions and run the "
                "command again."
            ) from error


def _verdicts(
    run: Run, folder: PhaseFolder, *, used: Collection[str], training: Sequence[Run], now: float
) -> Iterator[tuple[Path, tuple[bool, str] | None]]:
    """Yield every checkpoint of a phase with whether it is kept and why; None is kept without a reason."""
    complete = checkpoints(folder.path)
    if _may_be_training(run, folder, now=now):
        yield from ((path, (True, "the phase is training")) for path in complete)
        return
    partial = [path for path in folder.path.glob("checkpoint_*") if path.is_dir() and path not in complete]
    for path in (*folder.path.glob(f"{UNFINISHED}*"), *partial):
        yield path, (False, "incomplete")
    keep = {path for path in (_best(run, folder), *complete[-1:]) if path is not None}
    prints = {_state(path).get("fingerprint") for path in complete}
    if not _superseded(run, folder):
        # The newest checkpoint of an unfinished phase may prove damaged, so the one before it is kept too.
        kept = keep if folder.done is not None else keep | {*complete[-2:]}
        yield from ((path, None if path in kept else (False, "neither best nor last")) for path in complete)
    elif prints & set(used):
        yield from (
            (path, (True, "a donor in use") if path in keep else (False, "neither best nor last"))
            for path in complete
        )
    elif training:
        names = ", ".join(other.name for other in training)
        reason = f"superseded, but {names} is training and may read it"
        yield from ((path, (True, reason)) for path in complete)
    else:
        yield from ((path, (False, f"superseded: {folder.phase} was trained again")) for path in complete)


def _superseded(run: Run, folder: PhaseFolder) -> bool:
    """Return whether the same phase was finished later in another folder."""
    if folder.done is not None or folder.phase not in run.finished:
        return False
    owner = next(
        (other for other in run.folders if other.phase == folder.phase and other.done is not None), None
    )
    return owner is not None and owner.last_written > folder.last_written


def _may_be_training(run: Run, folder: PhaseFolder, *, now: float) -> bool:
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
    """Return the fingerprints of all networks that trained networks use frozen or model folders contain."""
    used: set[str] = set()
    for run in runs:
        for folder in run.folders:
            for path in checkpoints(folder.path):
                used |= set(_state(path).get("frozen", {}).values())
    for parent in {run.path.parent for run in runs}:
        for network in read_strictly(parent / MODEL / FILE_NAME).get("networks", {}).values():
            used |= {network.get("fingerprint"), *network.get("frozen", {}).values()}
    return {fingerprint for fingerprint in used if fingerprint}


def _is_named(path: Path, named: Collection[Path]) -> bool:
    """Return whether one of the paths may refer to this checkpoint.

    Relative paths refer to the working folder of `pbr train`, which is unknown. Therefore only the names of
    the phase's folder and of the checkpoint are compared.
    """
    return any(path.parts[-2:][-len(place.parts) :] == place.parts[-2:] for place in named)


def _named_paths(runs: Sequence[Run]) -> set[Path]:
    """Return the paths of checkpoints in curricula, as donors or frozen networks."""
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

"""Finds the checkpoints of donors outside of a curriculum, and checks that they fit."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pbrlib import storage
from pbrlib.curriculum.fingerprint import outside_donors
from pbrlib.curriculum.references import CheckpointPath, OtherCurriculum, parse_donor
from pbrlib.curriculum.spec import Curriculum
from pbrlib.tasks.start import check_start
from pbrlib.train.record.rundirectory import RunDirectory


def check_donors(curriculum: Curriculum, *, runs: Path, trained_before: Collection[str]) -> None:
    """Raise CheckpointError if a donor outside the curriculum is not trained or does not fit.

    Donors in ``trained_before``, the curricula that the same command trains first, are not checked.
    """
    starts = {phase.starts_from: f"phases.{name}.starts_from" for name, phase in curriculum.phases.items()}
    for reference in outside_donors(curriculum):
        donor = parse_donor(reference)
        if isinstance(donor, OtherCurriculum) and donor.curriculum in trained_before:
            continue
        folder = _outside(reference, runs=runs)
        if reference in starts:
            check_start(folder, curriculum.task, place=f"{curriculum.name}: {starts[reference]}")


def outside_folders(curriculum: Curriculum, *, runs: Path) -> dict[str, Path]:
    """Return the checkpoint of every network from outside, by its reference; raises CheckpointError."""
    return {reference: _outside(reference, runs=runs) for reference in outside_donors(curriculum)}


def _outside(reference: str, *, runs: Path) -> Path:
    """Return the checkpoint folder of a donor outside the curriculum."""
    donor = parse_donor(reference)
    if isinstance(donor, CheckpointPath):
        return storage.to_path(donor.path).resolve()
    assert isinstance(donor, OtherCurriculum)
    return RunDirectory(runs, name=donor.curriculum).best(donor.phase)[0]

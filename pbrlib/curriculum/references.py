"""Parses references to trained weights: the donor of a phase, and the frozen networks of a task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from pbrlib.tasks.taskspec import TaskSpec

_REFERENCE = re.compile(r"^(?P<curriculum>[a-z0-9][a-z0-9_-]*)(?:\.(?P<phase>[A-Za-z][A-Za-z0-9_-]*))?$")


@dataclass(frozen=True)
class OwnPhase:
    """A donor: an earlier phase of the same curriculum."""

    phase: str


@dataclass(frozen=True)
class OtherCurriculum:
    """A donor: a phase of another curriculum in the same runs directory; None is its last phase."""

    curriculum: str
    phase: str | None


@dataclass(frozen=True)
class CheckpointPath:
    """A donor: a checkpoint folder at any path."""

    path: str


Donor: TypeAlias = OwnPhase | OtherCurriculum | CheckpointPath


def parse_donor(reference: str, *, own_phases: tuple[str, ...] = ()) -> Donor:
    """Parse ``starts_from`` or the reference of a frozen network.

    A phase of the same curriculum takes precedence, then ``other`` and ``other.PHASE``; anything else is a
    path (use ``./name`` for a folder whose name looks like a curriculum's).
    """
    if reference in own_phases:
        return OwnPhase(reference)
    match = _REFERENCE.match(reference)
    if match is None:
        return CheckpointPath(reference)
    return OtherCurriculum(match["curriculum"], match["phase"])


def frozen_networks(task: TaskSpec) -> dict[str, str]:
    """Return the references of a task's frozen networks, by the name of the task's field."""
    return {name: getattr(task, name) for name in ("segformer", "albedo") if hasattr(task, name)}

"""A file of a texture tree that makes no pair, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath


class Fate(StrEnum):
    """Why a file is left out.

    Attributes:
        SKIPPED: It is no material of its own: another kind of map, a folder of the UI, a second copy.
        KEPT: A True PBR set that is there already, or the old pair that it was made for.
        UNPAIRED: A diffuse without a normal, or a normal without a diffuse.
        UNREAD: An archive, a picture of another format, a link, a folder that cannot be listed.
        REFUSED: The game's patcher does not take a texture of this name.
        OVERSIZE: It has more pixels than are converted in one pass.
        FAILED: Something went wrong with it.
        PENDING: The conversion ended before its turn.
    """

    SKIPPED = "skipped"
    KEPT = "kept"
    UNPAIRED = "unpaired"
    UNREAD = "unread"
    REFUSED = "refused"
    OVERSIZE = "oversize"
    FAILED = "failed"
    PENDING = "pending"


MEANT = (Fate.SKIPPED, Fate.KEPT)
"""Fates of files that are left out because of what they are; all others miss something."""


@dataclass(frozen=True)
class Aside:
    """A file that makes no pair, relative to the texture root (or beside it, with ``..``), and why."""

    path: PurePosixPath
    fate: Fate
    reason: str


def sorted_asides(asides: list[Aside]) -> tuple[Aside, ...]:
    """Asides in the order of their paths, whatever the case."""
    return tuple(sorted(asides, key=lambda aside: aside.path.as_posix().lower()))

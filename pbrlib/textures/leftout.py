"""Files of a texture tree that are not converted, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath


class Outcome(StrEnum):
    """Why a file is left out.

    Attributes:
        SKIPPED: Not a material: another kind of map, a texture of the UI, a second copy.
        KEPT: An existing True PBR set, or the pair that an existing set belongs to.
        UNPAIRED: A diffuse without a normal, or a normal without a diffuse.
        UNREAD: An archive, a picture of another format, a link, a folder that cannot be listed.
        REFUSED: The game's patcher does not accept a texture of this name.
        OVERSIZE: Larger than the maximum size of a conversion.
        FAILED: An error occurred while it was read, converted or written.
        PENDING: The conversion ended before it was converted.
    """

    SKIPPED = "skipped"
    KEPT = "kept"
    UNPAIRED = "unpaired"
    UNREAD = "unread"
    REFUSED = "refused"
    OVERSIZE = "oversize"
    FAILED = "failed"
    PENDING = "pending"


INTENDED = (Outcome.SKIPPED, Outcome.KEPT)
"""Outcomes of files that need no conversion; all other outcomes mean that a material is missing."""


@dataclass(frozen=True)
class LeftOutFile:
    """A file that is not converted: its path, relative to the texture root, the outcome and the reason."""

    path: PurePosixPath
    outcome: Outcome
    reason: str


def sorted_left_out(left_out: list[LeftOutFile]) -> tuple[LeftOutFile, ...]:
    """Sort left-out files by path, ignoring case."""
    return tuple(sorted(left_out, key=lambda file: file.path.as_posix().lower()))

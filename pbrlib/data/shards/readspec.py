"""Declarations of a runtime file for reading shard sets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, field_validator

from pbrlib.spec import Spec

OnBadSample: TypeAlias = Literal["fail", "skip"]

KEEP_FREE = 0.1
"""Default share of the disk that stays free; Ray creates no objects on a disk that is 95 % full."""


class TileCacheSpec(Spec):
    """The size and folder of the cache of decoded tiles on each node.

    ``gib`` is its maximum size in GiB. ``folder`` is an absolute path that is used on every node; None is the
    temporary folder of the system. ``keep_free`` is the share of the disk that stays free in any case.
    """

    gib: float = Field(default=20.0, gt=0.0)
    folder: str | None = None
    keep_free: float = Field(default=KEEP_FREE, ge=0.0, lt=1.0)

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: str | None) -> str | None:
        if folder is not None and not Path(folder).is_absolute():
            raise ValueError(
                f"got {folder}; expected an absolute path, since workers start in other folders. Give one."
            )
        return folder

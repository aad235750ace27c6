"""How a shard set is read, as a runtime file declares it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, field_validator

from pbrlib.spec import Spec

OnBadSample: TypeAlias = Literal["fail", "skip"]

KEEP_FREE = 0.1
"""Ray makes no objects on a disk that is 95 % full."""


class TileCacheSpec(Spec):
    """How much of a node's disk may hold decoded tiles, and where.

    ``folder`` is an absolute path on every node; None: the temporary folder of the system. ``keep_free`` is
    the share of its disk that stays free whatever ``gib`` allows.
    """

    gib: float = Field(default=20.0, gt=0.0)
    folder: str | None = None
    keep_free: float = Field(default=KEEP_FREE, ge=0.0, lt=1.0)

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: str | None) -> str | None:
        if folder is not None and not Path(folder).is_absolute():
            raise ValueError(f"{folder} is not an absolute path, and workers start in other folders")
        return folder

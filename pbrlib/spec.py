"""The base of every declared thing: frozen, and deaf to unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen declaration; an unknown key, an infinite or a NaN number is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

"""What is drawn, as a curriculum declares it: the balance of classes, and mosaics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from pbrlib.spec import Spec


class SamplerSpec(Spec):
    """Weighted sampling with replacement: ``max(minority_fraction ** exponent, floor)``, mean 1."""

    exponent: float = Field(default=0.4, gt=0.0)
    floor: float = Field(default=0.3, gt=0.0, le=1.0)


class BalanceSpec(Spec):
    """What counters the rarity of classes. Without a sampler every sample of a source is drawn equally often.

    Attributes:
        sampler: Draws textures with rare classes more often.
        class_weights: Switches w_c = 1 / sqrt(pixel share), mean 1 over the classes present, in the loss.
        minority: Names the minority classes; None computes them from the index, as
            `pbrlib.data.draws.balance.minority_classes` says.
        minority_tiles: The share of each source's draws whose crop is one of its tiles with at least 3 % of
            minority pixels; see `pbrlib.data.draws.balance.minority_tiles`.
        mask_dropout: The share of the pixels of a class that leave the loss, anew in each draw.
    """

    sampler: SamplerSpec | None = None
    class_weights: bool = True
    minority: tuple[str, ...] | None = None
    minority_tiles: float | None = Field(default=None, ge=0.0, le=1.0)
    mask_dropout: Mapping[str, Annotated[float, Field(ge=0.0, le=1.0)]] | None = None


class MosaicSpec(Spec):
    """The share of draws that become mosaics, whose parts come from the whole training set.

    Only materials without an old diffuse should be mosaicked: real old textures keep their own composition.

    Attributes:
        sources: The sources whose draws take part, and from which partners come.
        two: Share of their draws that are made of two halves, side by side or stacked, equally likely.
        four: Share of their draws that are made of four quarters.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    two: float = Field(ge=0.0, le=1.0)
    four: float = Field(ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _shares_leave_room(self) -> MosaicSpec:
        if self.two + self.four > 1.0 + 1e-9:
            raise ValueError(f"two and four are {self.two + self.four:g} together, more than all draws.")
        return self

"""Declarations of a curriculum for draws: the balance of classes, and mosaics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from pbrlib.spec import Spec


class SamplerSpec(Spec):
    """Sampling with replacement and weights ``max(minority_fraction ** exponent, floor)`` with mean 1."""

    exponent: float = Field(default=0.4, gt=0.0)
    floor: float = Field(default=0.3, gt=0.0, le=1.0)


class BalanceSpec(Spec):
    """Settings against the imbalance of classes.

    Attributes:
        sampler: Draws textures with rare classes more often; None draws all textures of a source equally
            often.
        class_weights: Whether the loss uses class weights w_c = 1 / sqrt(pixel share), with mean 1 over the
            present classes.
        minority: The minority classes; None computes them with
            `pbrlib.data.draws.balance.minority_classes`.
        minority_tiles: The share of the draws of each source whose window is a minority tile, see
            `pbrlib.data.draws.balance.minority_tiles`.
        mask_dropout: The share of the pixels of a class that the loss ignores, chosen again for each draw.
    """

    sampler: SamplerSpec | None = None
    class_weights: bool = True
    minority: tuple[str, ...] | None = None
    minority_tiles: float | None = Field(default=None, ge=0.0, le=1.0)
    mask_dropout: Mapping[str, Annotated[float, Field(ge=0.0, le=1.0)]] | None = None


class MosaicSpec(Spec):
    """The shares of draws that become mosaics; the other parts are drawn from the whole training set.

    Use mosaics only for materials without an old diffuse, so that real old textures keep their composition.

    Attributes:
        sources: The sources whose draws become mosaics; the other parts come from the same sources.
        two: Share of their draws with two halves, side by side or stacked with equal probability.
        four: Share of their draws with four quarters.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    two: float = Field(ge=0.0, le=1.0)
    four: float = Field(ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _sum_at_most_one(self) -> MosaicSpec:
        if self.two + self.four > 1.0 + 1e-9:
            raise ValueError(
                f"two + four: got {self.two + self.four:g}; expected at most 1. Reduce one of them."
            )
        return self

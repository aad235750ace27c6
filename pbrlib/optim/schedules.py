"""Learning rates as pure functions of the step: nothing to save, nothing to restore.

Two readings of the recipe hold for every schedule. An end rate belongs to the base rate of its group and
scales with the group's layer-decay factor, so an annealed rate never rises. And an end rate is a rate, not
a quotient: several groups with different peaks end at one value where the recipe gives one value.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from pbrlib.spec import Spec

OpenShare: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class ConstantSpec(Spec):
    """The same rate at every step."""

    kind: Literal["constant"] = "constant"

    def describe(self) -> str:
        """One phrase for tables and logs."""
        return "constant"


class CosineSpec(Spec):
    """Half a cosine from the group's rate to ``final``."""

    kind: Literal["cosine"] = "cosine"
    final: NonNegativeFloat

    def describe(self) -> str:
        """One phrase for tables and logs."""
        return f"cosine -> {self.final:g}"


class OneCycleSpec(Spec):
    """From ``peak / div_factor`` up to the group's rate, the peak, and down to ``final``; both ways a cosine.

    The shape of torch's OneCycleLR, without its cycle of the momentum.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    pct_start: OpenShare
    div_factor: Annotated[float, Field(ge=1)] = 25.0
    final: NonNegativeFloat

    def describe(self) -> str:
        """One phrase for tables and logs."""
        return f"one cycle: peak/{self.div_factor:g} -> peak at {self.pct_start:.0%} -> {self.final:g}"


class WarmupCosineSpec(Spec):
    """Linear from ``start_factor`` of the group's rate, then a cosine to the end rate.

    Attributes:
        warmup_epochs: Length of the linear part.
        start_factor: Share of the group's rate at step 0.
        final: End rate.
        final_factor: End rate as a share of the optimizer's own ``lr``; one of the two is given.
    """

    kind: Literal["warmup_cosine"] = "warmup_cosine"
    warmup_epochs: PositiveFloat = 1.0
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.3
    final: NonNegativeFloat | None = None
    final_factor: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.final is None) == (self.final_factor is None):
            raise ValueError("give one of final (a rate) and final_factor (a share of the optimizer's lr).")
        return self

    def describe(self) -> str:
        """One phrase for tables and logs."""
        end = f"{self.final:g}" if self.final is not None else f"{self.final_factor:g} lr"
        return f"warm-up {self.warmup_epochs:g} ep from {self.start_factor:g}, cosine -> {end}"


ScheduleSpec: TypeAlias = Annotated[
    ConstantSpec | CosineSpec | OneCycleSpec | WarmupCosineSpec, Field(discriminator="kind")
]
"""Every kind of schedule."""

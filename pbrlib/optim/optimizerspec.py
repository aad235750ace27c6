"""The optimizer, declared: rates, decay, and the rules that sort parameters into named groups."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, PositiveFloat, model_validator

from pbrlib.spec import Spec

Decay: TypeAlias = Annotated[float, Field(ge=0)]
LayerDecay: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class GroupSpec(Spec):
    """A rule over parameter names; what it leaves out comes from the optimizer.

    Attributes:
        match: One or several patterns, ``*`` standing for any part of a name (``encoder.stages.0.*``).
        lr: Base rate of the group.
        weight_decay: Decay of the group; norms, biases, FiLM and position embeddings never decay.
        layer_decay: Factor per encoder stage above the deepest.
        freeze: Leave the parameters as they are, out of the optimizer.
        final: Where the schedule ends for this group, instead of the schedule's own end.
    """

    match: str | tuple[str, ...]
    lr: PositiveFloat | None = None
    weight_decay: Decay | None = None
    layer_decay: LayerDecay | None = None
    freeze: bool = False
    final: Decay | None = None

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, also where one was written as a plain word."""
        return (self.match,) if isinstance(self.match, str) else self.match

    @model_validator(mode="after")
    def _frozen_has_no_rate(self) -> Self:
        given = [n for n in ("lr", "weight_decay", "layer_decay", "final") if getattr(self, n) is not None]
        if self.freeze and given:
            raise ValueError(f"a frozen group has no {', '.join(given)}. Leave it out, or set freeze: false.")
        return self


class AdamWSpec(Spec):
    """AdamW with named groups; of several rules that match a parameter the first one counts.

    Attributes:
        lr: Rate of every parameter that no rule claims, and of rules without their own.
        weight_decay: Decay likewise.
        betas: Averaging factors of the first and second moment.
        layer_decay: Encoder stage ``k`` has ``lr * layer_decay ** (last - k)``: the deepest the base rate.
        groups: The rules by name, in order.
    """

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat
    weight_decay: Decay = 0.01
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    layer_decay: LayerDecay | None = None
    groups: dict[str, GroupSpec] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _base_is_taken(self) -> Self:
        if "base" in self.groups:
            raise ValueError("groups.base: this name is for parameters that no rule claims. Choose another.")
        return self


OptimizerSpec: TypeAlias = AdamWSpec
"""Every kind of optimizer; a union once there are two."""

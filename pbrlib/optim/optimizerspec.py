"""Specs of the optimizer: learning rates, weight decay, and rules that sort parameters into groups."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, PositiveFloat, model_validator

from pbrlib.spec import Spec

Decay: TypeAlias = Annotated[float, Field(ge=0)]
LayerDecay: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class GroupSpec(Spec):
    """A rule that selects parameters by name; settings that it omits come from the optimizer.

    Attributes:
        match: One or several patterns; ``*`` matches any part of a name (``encoder.stages.0.*``).
        lr: Base learning rate of the group.
        weight_decay: Weight decay of the group; norms, biases, FiLM and position embeddings never decay.
        layer_decay: Factor on the learning rate for each encoder stage above the deepest (LLRD).
        freeze: Exclude the parameters from the optimizer.
        final: End rate of this group, instead of the schedule's.
    """

    match: str | tuple[str, ...]
    lr: PositiveFloat | None = None
    weight_decay: Decay | None = None
    layer_decay: LayerDecay | None = None
    freeze: bool = False
    final: Decay | None = None

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns as a tuple."""
        return (self.match,) if isinstance(self.match, str) else self.match

    @model_validator(mode="after")
    def _check_frozen(self) -> Self:
        given = [n for n in ("lr", "weight_decay", "layer_decay", "final") if getattr(self, n) is not None]
        if self.freeze and given:
            raise ValueError(
                f"got freeze with {', '.join(given)}; expected freeze alone. "
                f"Leave {', '.join(given)} out, or set freeze: false."
            )
        return self


class AdamWSpec(Spec):
    """AdamW with named groups; the first rule that matches a parameter applies.

    Attributes:
        lr: Learning rate of parameters that no rule matches, and of rules without ``lr``.
        weight_decay: Weight decay of parameters that no rule matches, and of rules without ``weight_decay``.
        betas: Averaging factors of the first and second moment.
        layer_decay: Encoder stage ``k`` has ``lr * layer_decay ** (last - k)``; the deepest has ``lr``.
        groups: The rules by name, in order.
    """

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat
    weight_decay: Decay = 0.01
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    layer_decay: LayerDecay | None = None
    groups: dict[str, GroupSpec] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_group_names(self) -> Self:
        if "base" in self.groups:
            raise ValueError(
                "groups.base: got a reserved name; expected another, as base holds the parameters that no "
                "rule matches. Rename the group."
            )
        return self


OptimizerSpec: TypeAlias = AdamWSpec
"""The spec of any optimizer."""

"""What every term declares: its weight, its symbol in formulas, and the targets it applies to."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, model_validator

from pbrlib.maps import Encoding, MapType
from pbrlib.spec import Spec


class TermSpec(Spec):
    """One term of the weighted sum; ``0.15`` is short for ``{weight: 0.15}``.

    Attributes:
        symbol: The term's name in a formula.
        revision: Of the formula. A change of what the term computes raises it, and phases with the term begin
            anew instead of resuming onto another loss; rounding is no such change.
    """

    symbol: ClassVar[str]
    revision: ClassVar[int] = 1

    weight: NonNegativeFloat

    @model_validator(mode="before")
    @classmethod
    def _bare_number_is_the_weight(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"weight": value}
        return value

    @classmethod
    @abstractmethod
    def applies_to(cls, target: MapType) -> bool:
        """Whether the term can compare a network's answer with this map."""

    def label(self) -> str:
        """The term as a formula shows it, without its weight."""
        return self.symbol

    def formula(self) -> str:
        """The weighted term as a formula shows it."""
        return f"{self.weight:g} {self.label()}"


class ClassTermSpec(TermSpec):
    """A term over class logits ``(N, K, H, W)`` and labels."""

    @classmethod
    def applies_to(cls, target: MapType) -> bool:
        """Labels."""
        return target.encoding is Encoding.LABEL


class MapTermSpec(TermSpec):
    """A term over map logits ``(N, C, H, W)`` and a map in [0, 1]."""

    @classmethod
    def applies_to(cls, target: MapType) -> bool:
        """Maps in [0, 1]."""
        return target.encoding in (Encoding.SRGB, Encoding.LINEAR)

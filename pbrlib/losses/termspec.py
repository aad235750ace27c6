"""Base specs of loss terms: weight, symbol in formulas, and the maps that a term applies to."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, model_validator

from pbrlib.maps import Encoding, MapType
from pbrlib.spec import Spec


class TermSpec(Spec):
    """Spec of one term of the weighted sum; ``0.15`` is short for ``{weight: 0.15}``.

    Attributes:
        symbol: The term's name in a formula.
        revision: Revision of the formula, a part of the phase's fingerprint. A changed formula gets the next
            number, so that phases with this term start again instead of resuming with another loss. Changed
            rounding alone does not count.
    """

    symbol: ClassVar[str]
    revision: ClassVar[int] = 1

    weight: NonNegativeFloat

    @model_validator(mode="before")
    @classmethod
    def _read_number_as_weight(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"weight": value}
        return value

    @classmethod
    @abstractmethod
    def applies_to(cls, target: MapType) -> bool:
        """Return whether the term can compare a prediction with this map."""

    def label(self) -> str:
        """Return the term for a formula, without its weight."""
        return self.symbol

    def formula(self) -> str:
        """Return the term for a formula, with its weight."""
        return f"{self.weight:g} {self.label()}"


class ClassTermSpec(TermSpec):
    """Spec of a term over class logits ``(N, K, H, W)`` and labels."""

    @classmethod
    def applies_to(cls, target: MapType) -> bool:
        """Return whether the map holds class labels."""
        return target.encoding is Encoding.LABEL


class MapTermSpec(TermSpec):
    """Spec of a term over map logits ``(N, C, H, W)`` and a map in [0, 1]."""

    @classmethod
    def applies_to(cls, target: MapType) -> bool:
        """Return whether the map has values in [0, 1]."""
        return target.encoding in (Encoding.SRGB, Encoding.LINEAR)

"""Specs of the loss terms and of a loss, as a curriculum declares them.

`pbrlib.losses.termmodules` maps each spec to the class that computes the term.
"""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Field, NonNegativeFloat, model_validator

from pbrlib.losses.termspec import ClassTermSpec, MapTermSpec, TermSpec
from pbrlib.maps import CLASSES, HEIGHT, Encoding, MapType
from pbrlib.spec import Spec


class CrossEntropySpec(ClassTermSpec):
    """Cross entropy with the class weights ``w_c`` of the phase (all 1 without class weights)."""

    symbol = "CE(w_c)"


def _known_classes(gamma: float | dict[str, float]) -> float | dict[str, float]:
    for name in gamma if isinstance(gamma, dict) else ():
        if name not in CLASSES:
            raise ValueError(
                f"got {name!r}; expected one of the classes {', '.join(CLASSES)}. Use one of these."
            )
    return gamma


class FocalSpec(ClassTermSpec):
    """Multi-class focal loss; classes that are missing in a mapping of gammas have the default gamma."""

    symbol = "Focal"

    gamma: Annotated[NonNegativeFloat | dict[str, NonNegativeFloat], AfterValidator(_known_classes)] = 2.0

    def gammas(self, classes: tuple[str, ...]) -> tuple[float, ...]:
        """Return the gamma of each class, in the order of ``classes``."""
        if not isinstance(self.gamma, dict):
            return (self.gamma,) * len(classes)
        default: float = FocalSpec.model_fields["gamma"].default
        return tuple(self.gamma.get(name, default) for name in classes)

    def label(self) -> str:
        """Return ``Focal(w_c, gamma ...)``."""
        gamma = "gamma per class" if isinstance(self.gamma, dict) else f"gamma {self.gamma:g}"
        return f"{self.symbol}(w_c, {gamma})"


class DiceSpec(ClassTermSpec):
    """Soft Dice loss over the classes present."""

    symbol = "Dice"


class L1Spec(MapTermSpec):
    """Mean absolute difference."""

    symbol = "L1"


class MsSsimSpec(MapTermSpec):
    """``1 - MS-SSIM``, with the multi-scale structural similarity."""

    symbol = "(1 - MS-SSIM)"
    revision = 2  # masked pixels do not change the value, and zero contrast has a gradient


Trunk = Literal["alex", "vgg", "squeeze"]


class LpipsSpec(TermSpec):
    """LPIPS, a perceptual distance. ``backbone`` is the torchvision weights file of ``net``, or ``random``.

    Nothing is downloaded. A random backbone gives no true LPIPS and is reported as ``lpips_random``.
    """

    symbol = "LPIPS"

    backbone: Literal["random"] | str
    net: Trunk = "alex"

    @classmethod
    def applies_to(cls, target: MapType) -> bool:
        """Return whether the map is a colour map, since the trunk was trained on photographs."""
        return target.encoding is Encoding.SRGB

    def label(self) -> str:
        """Return ``LPIPS(alex)``, or ``LPIPS_random(alex)`` for a random backbone."""
        name = f"{self.symbol}_random" if self.backbone == "random" else self.symbol
        return f"{name}({self.net})"


class GradDiffSpec(MapTermSpec):
    """Mean absolute difference of the forward differences."""

    symbol = "GradDiff"


class TvSpec(MapTermSpec):
    """Total variation of the prediction."""

    symbol = "TV"


class SobelSpec(MapTermSpec):
    """Mean absolute difference of the Sobel magnitudes."""

    symbol = "Sobel"


class NormalReprojSpec(TermSpec):
    """Distance of the predicted height's normal to the input normal; the weight may change over the phase."""

    symbol = "NormalReproj"

    final_weight: NonNegativeFloat | None = None
    """Weight at the end of the phase, reached linearly; None keeps the weight constant."""

    @classmethod
    def applies_to(cls, target: MapType) -> bool:
        """Return whether the map is the height, the only map from which a normal is computed."""
        return target.name == HEIGHT.name

    def formula(self) -> str:
        """Return the weighted term, as ``0.15 -> 0.1 NormalReproj`` if the weight changes."""
        moves = "" if self.final_weight is None else f" -> {self.final_weight:g}"
        return f"{self.weight:g}{moves} {self.symbol}"


class LaplacianPyramidSpec(MapTermSpec):
    """Mean absolute difference of the bands of a Laplacian pyramid."""

    symbol = "LaplacianPyramid"


class FocalRelativeL1Spec(MapTermSpec):
    """L1 and relative L1, with a larger weight for pixels with a larger error."""

    symbol = "FocalRelativeL1"

    gamma: NonNegativeFloat = 1.0

    def label(self) -> str:
        """Return ``FocalRelativeL1(gamma ...)``."""
        return f"{self.symbol}(gamma {self.gamma:g})"


class FocalBceSpec(MapTermSpec):
    """Binary focal loss with soft targets."""

    symbol = "FocalBCE"

    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    gamma: NonNegativeFloat = 2.0

    def label(self) -> str:
        """Return ``FocalBCE(alpha ..., gamma ...)``."""
        return f"{self.symbol}(alpha {self.alpha:g}, gamma {self.gamma:g})"


class FocalTverskySpec(MapTermSpec):
    """Focal Tversky loss, ``(1 - Tversky index) ** gamma``, with weights of false positives and negatives."""

    symbol = "FocalTversky"

    false_positive: NonNegativeFloat = 0.7
    false_negative: NonNegativeFloat = 0.3
    gamma: Annotated[float, Field(gt=0.0)] = 1.5

    def label(self) -> str:
        """Return ``FocalTversky(FP ..., FN ..., gamma ...)``."""
        settings = f"FP {self.false_positive:g}, FN {self.false_negative:g}, gamma {self.gamma:g}"
        return f"{self.symbol}({settings})"


class BceSpec(MapTermSpec):
    """Binary cross entropy; ``pos_weight`` is usually the number of negatives / positives."""

    symbol = "BCE"

    pos_weight: Annotated[float, Field(gt=0.0)] | None = None

    def label(self) -> str:
        """Return ``BCE``, with its pos_weight if it has one."""
        return self.symbol if self.pos_weight is None else f"{self.symbol}(pos_weight {self.pos_weight:g})"


AnyTerm: TypeAlias = (
    CrossEntropySpec
    | FocalSpec
    | DiceSpec
    | L1Spec
    | MsSsimSpec
    | LpipsSpec
    | GradDiffSpec
    | TvSpec
    | SobelSpec
    | NormalReprojSpec
    | LaplacianPyramidSpec
    | FocalRelativeL1Spec
    | FocalBceSpec
    | FocalTverskySpec
    | BceSpec
)
"""Any spec of a term that `pbrlib.losses.termmodules` can compute."""


class LossSpec(Spec):
    """A weighted sum of terms, at least one; the order of the fields is the order of summation."""

    cross_entropy: CrossEntropySpec | None = None
    focal: FocalSpec | None = None
    dice: DiceSpec | None = None
    l1: L1Spec | None = None
    ms_ssim: MsSsimSpec | None = None
    lpips: LpipsSpec | None = None
    grad_diff: GradDiffSpec | None = None
    tv: TvSpec | None = None
    sobel: SobelSpec | None = None
    normal_reproj: NormalReprojSpec | None = None
    laplacian_pyramid: LaplacianPyramidSpec | None = None
    focal_relative_l1: FocalRelativeL1Spec | None = None
    focal_bce: FocalBceSpec | None = None
    focal_tversky: FocalTverskySpec | None = None
    bce: BceSpec | None = None

    @model_validator(mode="after")
    def _check_terms(self) -> LossSpec:
        if not self.terms():
            raise ValueError(
                f"got no term; expected at least one. Add one of: {', '.join(type(self).model_fields)}."
            )
        if self.focal_bce and self.bce and self.bce.pos_weight is not None:
            raise ValueError(
                "got bce.pos_weight and focal_bce.alpha; expected one of them, since both weight the "
                "positive pixels. Leave one of the two out."
            )
        return self

    @classmethod
    def term_types(cls) -> dict[str, type[TermSpec]]:
        """Return the spec class of each possible term, in the order of the fields."""
        return {
            name: kind
            for name, field in cls.model_fields.items()
            for kind in get_args(field.annotation)
            if kind is not NoneType
        }

    def terms(self) -> dict[str, AnyTerm]:
        """Return the terms of this loss by name, in the order of the fields."""
        given: dict[str, AnyTerm | None] = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term for name, term in given.items() if term is not None}

    def formula(self) -> str:
        """Return the loss as a formula, e.g. ``0.6 CE(w_c) + 0.15 Dice``."""
        return " + ".join(term.formula() for term in self.terms().values())

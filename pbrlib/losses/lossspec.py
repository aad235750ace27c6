"""What a loss is made of, as a curriculum declares it: one field per term, a bare number is its weight.

The readings of the terms (formulas, clamps, scales) are in :mod:`pbrlib.losses.terms`,
:mod:`pbrlib.losses.segmentation` and :mod:`pbrlib.losses.perceptual`. This module imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, model_validator

from pbrlib.maps import CLASSES
from pbrlib.spec import Spec

SEGMENTATION_TERMS = frozenset({"cross_entropy", "focal", "dice"})
"""Terms over class logits ``(N, K, H, W)`` and labels."""

IMAGE_TERMS = frozenset(
    {
        "l1", "ms_ssim", "lpips", "grad_diff", "tv", "sobel", "normal_reproj", "laplacian_pyramid",
        "focal_relative_l1", "focal_bce", "focal_tversky", "bce",
    }
)  # fmt: skip
"""Terms over map logits ``(N, C, H, W)`` and a map in [0, 1]."""


class TermSpec(Spec):
    """One term of the weighted sum; ``0.15`` is short for ``{weight: 0.15}``."""

    weight: NonNegativeFloat

    @model_validator(mode="before")
    @classmethod
    def _bare_number_is_the_weight(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"weight": value}
        return value

    def label(self, name: str) -> str:
        """The term as a formula shows it, without its weight."""
        return name

    def formula(self, name: str) -> str:
        """The weighted term as a formula shows it."""
        return f"{self.weight:g} {self.label(name)}"


def _known_classes(gamma: float | dict[str, float]) -> float | dict[str, float]:
    for name in gamma if isinstance(gamma, dict) else ():
        if name not in CLASSES:
            raise ValueError(f"{name!r} is not a class. Classes: {', '.join(CLASSES)}.")
    return gamma


class FocalSpec(TermSpec):
    """Multi-class focal loss; a class that a mapping of gammas does not name takes the default."""

    gamma: Annotated[NonNegativeFloat | dict[str, NonNegativeFloat], AfterValidator(_known_classes)] = 2.0

    def gammas(self, classes: tuple[str, ...]) -> tuple[float, ...]:
        """Gamma of each class, in the order of ``classes``."""
        if not isinstance(self.gamma, dict):
            return (self.gamma,) * len(classes)
        default: float = FocalSpec.model_fields["gamma"].default
        return tuple(self.gamma.get(name, default) for name in classes)

    def label(self, name: str) -> str:
        """``Focal(w_c, gamma ...)``."""
        gamma = "gamma per class" if isinstance(self.gamma, dict) else f"gamma {self.gamma:g}"
        return f"{name}(w_c, {gamma})"


class LpipsSpec(TermSpec):
    """Perceptual distance. ``backbone`` is the torchvision weights file of ``net``, or ``random``.

    Nothing is downloaded. A random backbone is no LPIPS: it is reported as ``lpips_random``.
    """

    backbone: Literal["random"] | str
    net: Literal["alex", "vgg", "squeeze"] = "alex"

    def label(self, name: str) -> str:
        """``LPIPS(alex)``, or ``LPIPS_random(alex)`` where the backbone is random."""
        return f"{name}_random({self.net})" if self.backbone == "random" else f"{name}({self.net})"


class NormalReprojSpec(TermSpec):
    """Normal of the predicted height against the input normal; the weight may move over the phase."""

    final_weight: NonNegativeFloat | None = None
    """Reached linearly at the end of the phase; without it the weight stays."""

    def formula(self, name: str) -> str:
        """``0.15 -> 0.1 NormalReproj`` where the weight moves."""
        moves = "" if self.final_weight is None else f" -> {self.final_weight:g}"
        return f"{self.weight:g}{moves} {name}"


class FocalRelativeL1Spec(TermSpec):
    """L1 and relative L1, weighted towards the pixels that are wrong."""

    gamma: NonNegativeFloat = 1.0

    def label(self, name: str) -> str:
        """``FocalRelativeL1(gamma ...)``."""
        return f"{name}(gamma {self.gamma:g})"


class FocalBceSpec(TermSpec):
    """Binary focal loss with soft targets."""

    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    gamma: NonNegativeFloat = 2.0

    def label(self, name: str) -> str:
        """``FocalBCE(alpha ..., gamma ...)``."""
        return f"{name}(alpha {self.alpha:g}, gamma {self.gamma:g})"


class FocalTverskySpec(TermSpec):
    """``(1 - Tversky index) ** gamma`` with a weight for each kind of error."""

    false_positive: NonNegativeFloat = 0.7
    false_negative: NonNegativeFloat = 0.3
    gamma: Annotated[float, Field(gt=0.0)] = 1.5

    def label(self, name: str) -> str:
        """``FocalTversky(FP ..., FN ..., gamma ...)``."""
        return f"{name}(FP {self.false_positive:g}, FN {self.false_negative:g}, gamma {self.gamma:g})"


class BceSpec(TermSpec):
    """Binary cross entropy; ``pos_weight`` is negatives / positives."""

    pos_weight: Annotated[float, Field(gt=0.0)] | None = None

    def label(self, name: str) -> str:
        """``BCE``, with its pos_weight where it has one."""
        return name if self.pos_weight is None else f"{name}(pos_weight {self.pos_weight:g})"


SYMBOLS = {
    "cross_entropy": "CE(w_c)",
    "focal": "Focal",
    "dice": "Dice",
    "l1": "L1",
    "ms_ssim": "(1 - MS-SSIM)",
    "lpips": "LPIPS",
    "grad_diff": "GradDiff",
    "tv": "TV",
    "sobel": "Sobel",
    "normal_reproj": "NormalReproj",
    "laplacian_pyramid": "LaplacianPyramid",
    "focal_relative_l1": "FocalRelativeL1",
    "focal_bce": "FocalBCE",
    "focal_tversky": "FocalTversky",
    "bce": "BCE",
}
"""The term's name in a formula; ``w_c`` are the class weights of the phase (all 1 where it has none)."""


class LossSpec(Spec):
    """A weighted sum of terms, at least one."""

    cross_entropy: TermSpec | None = None
    focal: FocalSpec | None = None
    dice: TermSpec | None = None
    l1: TermSpec | None = None
    ms_ssim: TermSpec | None = None
    lpips: LpipsSpec | None = None
    grad_diff: TermSpec | None = None
    tv: TermSpec | None = None
    sobel: TermSpec | None = None
    normal_reproj: NormalReprojSpec | None = None
    laplacian_pyramid: TermSpec | None = None
    focal_relative_l1: FocalRelativeL1Spec | None = None
    focal_bce: FocalBceSpec | None = None
    focal_tversky: FocalTverskySpec | None = None
    bce: BceSpec | None = None

    @model_validator(mode="after")
    def _terms_make_sense(self) -> LossSpec:
        if not self.terms():
            raise ValueError(f"no term. Name at least one of: {', '.join(type(self).model_fields)}.")
        if self.focal_bce and self.bce and self.bce.pos_weight is not None:
            raise ValueError(
                "bce.pos_weight and focal_bce.alpha both weigh the positive pixels. Leave one of the two out."
            )
        return self

    def terms(self) -> dict[str, TermSpec]:
        """The terms that the loss has, in the order of the fields."""
        return {
            name: term
            for name in type(self).model_fields
            if isinstance(term := getattr(self, name), TermSpec)
        }

    def formula(self) -> str:
        """The loss in the notation of the field, e.g. ``0.6 CE(w_c) + 0.15 Dice``."""
        return " + ".join(term.formula(SYMBOLS[name]) for name, term in self.terms().items())

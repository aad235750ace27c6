"""What a loss is made of, as a curriculum declares it: one field per term, a bare number is its weight."""

from __future__ import annotations

from types import NoneType
from typing import get_args

from pydantic import model_validator

from pbrlib.losses import differences, entropies, gradients, overlaps, perceptual, reprojection
from pbrlib.losses.termspec import TermSpec
from pbrlib.spec import Spec


class LossSpec(Spec):
    """A weighted sum of terms, at least one; the order of the fields is the order of summation.

    A field is all that a term needs here: its formula, its module, its symbol and the targets that it applies
    to stand in the file of its family.
    """

    cross_entropy: entropies.CrossEntropySpec | None = None
    focal: entropies.FocalSpec | None = None
    dice: overlaps.DiceSpec | None = None
    l1: differences.L1Spec | None = None
    ms_ssim: perceptual.MsSsimSpec | None = None
    lpips: perceptual.LpipsSpec | None = None
    grad_diff: gradients.GradDiffSpec | None = None
    tv: gradients.TvSpec | None = None
    sobel: gradients.SobelSpec | None = None
    normal_reproj: reprojection.NormalReprojSpec | None = None
    laplacian_pyramid: gradients.LaplacianPyramidSpec | None = None
    focal_relative_l1: differences.FocalRelativeL1Spec | None = None
    focal_bce: entropies.FocalBceSpec | None = None
    focal_tversky: overlaps.FocalTverskySpec | None = None
    bce: entropies.BceSpec | None = None

    @model_validator(mode="after")
    def _terms_make_sense(self) -> LossSpec:
        if not self.terms():
            raise ValueError(f"no term. Name at least one of: {', '.join(type(self).model_fields)}.")
        if self.focal_bce and self.bce and self.bce.pos_weight is not None:
            raise ValueError(
                "bce.pos_weight and focal_bce.alpha both weigh the positive pixels. Leave one of the two out."
            )
        return self

    @classmethod
    def term_types(cls) -> dict[str, type[TermSpec]]:
        """The spec of each term that a loss can have, in the order of the fields."""
        return {
            name: kind
            for name, field in cls.model_fields.items()
            for kind in get_args(field.annotation)
            if kind is not NoneType
        }

    def terms(self) -> dict[str, TermSpec]:
        """The terms that the loss has, in the order of the fields."""
        return {
            name: term
            for name in type(self).model_fields
            if isinstance(term := getattr(self, name), TermSpec)
        }

    def formula(self) -> str:
        """The loss in the notation of the field, e.g. ``0.6 CE(w_c) + 0.15 Dice``."""
        return " + ".join(term.formula() for term in self.terms().values())

"""Maps the spec of every loss term to the class that computes it."""

from __future__ import annotations

from typing import assert_never

from pbrlib.losses.base import Term
from pbrlib.losses.differences import L1, FocalRelativeL1
from pbrlib.losses.entropies import Bce, CrossEntropy, Focal, FocalBce
from pbrlib.losses.gradients import GradDiff, LaplacianPyramid, Sobel, Tv
from pbrlib.losses.lossspec import (
    AnyTerm,
    BceSpec,
    CrossEntropySpec,
    DiceSpec,
    FocalBceSpec,
    FocalRelativeL1Spec,
    FocalSpec,
    FocalTverskySpec,
    GradDiffSpec,
    L1Spec,
    LaplacianPyramidSpec,
    LpipsSpec,
    MsSsimSpec,
    NormalReprojSpec,
    SobelSpec,
    TvSpec,
)
from pbrlib.losses.overlaps import Dice, FocalTversky
from pbrlib.losses.perceptual import Lpips, OneMinusMsSsim
from pbrlib.losses.reprojection import NormalReproj


def module_of(spec: AnyTerm) -> type[Term]:
    """Return the class that computes a term."""
    match spec:
        case CrossEntropySpec():
            return CrossEntropy
        case FocalSpec():
            return Focal
        case DiceSpec():
            return Dice
        case L1Spec():
            return L1
        case MsSsimSpec():
            return OneMinusMsSsim
        case LpipsSpec():
            return Lpips
        case GradDiffSpec():
            return GradDiff
        case TvSpec():
            return Tv
        case SobelSpec():
            return Sobel
        case NormalReprojSpec():
            return NormalReproj
        case LaplacianPyramidSpec():
            return LaplacianPyramid
        case FocalRelativeL1Spec():
            return FocalRelativeL1
        case FocalBceSpec():
            return FocalBce
        case FocalTverskySpec():
            return FocalTversky
        case BceSpec():
            return Bce
        case _:
            assert_never(spec)

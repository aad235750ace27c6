"""Loss terms as pure functions and as modules, and the recipe that sums them.

Each term of `pbrlib.losses.lossspec.LossSpec` is a function of that name here (``lpips`` is
``lpips_distance``, of the network that ``load_lpips`` opens) and a module, which knows what to average over.
Names are looked up when they are asked for: `pbrlib.losses.lossspec`, which every curriculum needs, imports
no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbrlib.losses.class_terms import CrossEntropy, Dice, Focal, FocalTversky
    from pbrlib.losses.modules import (
        L1,
        Bce,
        FocalBce,
        FocalRelativeL1,
        GradDiff,
        LaplacianPyramid,
        Lpips,
        NormalReproj,
        OneMinusMsSsim,
        Sobel,
        Tv,
    )
    from pbrlib.losses.perceptual import load_lpips, lpips_distance, ms_ssim
    from pbrlib.losses.recipe import LossContext, LossReport, LossTarget, Recipe
    from pbrlib.losses.segmentation import (
        cross_entropy,
        dice,
        dice_sums,
        focal,
        focal_tversky,
        tversky_sums,
    )
    from pbrlib.losses.terms import (
        bce,
        fitted_relief,
        focal_bce,
        focal_relative_l1,
        grad_diff,
        l1,
        laplacian_pyramid,
        mean,
        normal_reproj,
        pairs,
        pyramid_weights,
        sobel,
        tv,
        windows,
    )

__all__ = [
    "L1",
    "Bce",
    "CrossEntropy",
    "Dice",
    "Focal",
    "FocalBce",
    "FocalRelativeL1",
    "FocalTversky",
    "GradDiff",
    "LaplacianPyramid",
    "LossContext",
    "LossReport",
    "LossTarget",
    "Lpips",
    "NormalReproj",
    "OneMinusMsSsim",
    "Recipe",
    "Sobel",
    "Tv",
    "bce",
    "cross_entropy",
    "dice",
    "dice_sums",
    "fitted_relief",
    "focal",
    "focal_bce",
    "focal_relative_l1",
    "focal_tversky",
    "grad_diff",
    "l1",
    "laplacian_pyramid",
    "load_lpips",
    "lpips_distance",
    "mean",
    "ms_ssim",
    "normal_reproj",
    "pairs",
    "pyramid_weights",
    "sobel",
    "tv",
    "tversky_sums",
    "windows",
]

_HOMES = ("terms", "segmentation", "perceptual", "modules", "recipe")
"""Where the public names are, looked through in this order."""


def __getattr__(name: str) -> object:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

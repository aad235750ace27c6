"""Metrics that compare a predicted map with the true map: L1, RMSE and SSIM."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from pytorch_msssim import ssim as library_ssim
from torch import Tensor

from pbrlib.geometry.fields import masked_mean
from pbrlib.metrics.sums import Sums

SSIM_WINDOW = 11


def map_metrics(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"],
    *,
    prefix: str,
) -> Sums:
    """Compute ``prefix/l1`` and ``prefix/rmse`` over valid pixels, ``prefix/ssim`` over samples with any.

    Maps are in [0, 1]. The RMSE is the root of the mean over all pixels of the set, not a mean of roots.
    """
    sums = Sums()
    error = (prediction - target).float() * valid
    count = valid.sum() * target.shape[1]
    sums.add_mean(f"{prefix}/l1", error.abs().sum(), count)
    sums.add_root_mean(f"{prefix}/rmse", error.square().sum(), count)
    if min(target.shape[-2:]) >= SSIM_WINDOW:
        counted = valid.flatten(1).any(dim=1)
        sums.add_mean(f"{prefix}/ssim", (ssim(prediction, target, valid) * counted).sum(), counted.sum())
    return sums


def texture_metrics(
    prediction: Float[Tensor, "c h w"], target: Float[Tensor, "c h w"], valid: Bool[Tensor, "1 h w"]
) -> dict[str, float]:
    """Return ``mae``, ``rmse`` and (from 11 px on) ``ssim`` of one texture; empty without valid pixels."""
    found = map_metrics(prediction[None], target[None], valid[None], prefix="texture").results()
    names = {"texture/l1": "mae", "texture/rmse": "rmse", "texture/ssim": "ssim"}
    return {short: found[name] for name, short in names.items() if name in found}


def ssim(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"],
) -> Float[Tensor, " n"]:
    """Return each sample's structural similarity (Wang et al. 2004, window 11, sigma 1.5), channels averaged.

    Maps are in [0, 1], with sides of at least 11 px. Masked pixels are set to the target's mean in both maps.
    """
    level = masked_mean(target, valid)
    compared = (torch.where(valid, x, level).float() for x in (prediction, target))
    value: Tensor = library_ssim(*compared, data_range=1.0, size_average=False)
    return value

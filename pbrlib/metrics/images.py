"""How far a predicted map is from the true one."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from pytorch_msssim import ssim as library_ssim
from torch import Tensor

from pbrlib.geometry.fields import mean_of_counted
from pbrlib.metrics.sums import Sums

SSIM_WINDOW = 11


def map_metrics(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"],
    *,
    prefix: str,
) -> Sums:
    """``prefix/l1`` and ``prefix/rmse`` over the valid pixels, ``prefix/ssim`` over the samples with any.

    Maps in [0, 1]. The RMSE is the root of the mean over all pixels of the set, not a mean of roots.
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
    """``mae``, ``rmse`` and ``ssim`` of one texture; empty where no pixel counts, no ssim under 11 px."""
    found = map_metrics(prediction[None], target[None], valid[None], prefix="texture").results()
    names = {"texture/l1": "mae", "texture/rmse": "rmse", "texture/ssim": "ssim"}
    return {short: found[name] for name, short in names.items() if name in found}


def ssim(
    prediction: Float[Tensor, "n c h w"],
    target: Float[Tensor, "n c h w"],
    valid: Bool[Tensor, "n 1 h w"],
) -> Float[Tensor, " n"]:
    """Structural similarity of each sample (Wang et al. 2004, window 11, sigma 1.5), the mean over channels.

    Maps in [0, 1], at least 11 px a side; pixels that do not count are at the target's mean in both.
    """
    level = mean_of_counted(target, valid)
    compared = (torch.where(valid, x, level).float() for x in (prediction, target))
    value: Tensor = library_ssim(*compared, data_range=1.0, size_average=False)
    return value

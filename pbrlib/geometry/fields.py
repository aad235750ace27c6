"""Differences, padding, blur, percentiles and masked means of tensors ``(N, C, H, W)``."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def difference(x: Float[Tensor, "n c h w"], *, dim: int, tileable: bool) -> Float[Tensor, "n c h w"]:
    """Return the central difference per pixel along ``dim``; at the border it wraps, or is one-sided."""
    if tileable:
        return (x.roll(-1, dim) - x.roll(1, dim)) * 0.5
    size = x.shape[dim]
    inner = (x.narrow(dim, 2, size - 2) - x.narrow(dim, 0, size - 2)) * 0.5
    first = x.narrow(dim, 1, 1) - x.narrow(dim, 0, 1)
    last = x.narrow(dim, size - 1, 1) - x.narrow(dim, size - 2, 1)
    return torch.cat((first, inner, last), dim=dim)


def pad_axis(x: Float[Tensor, "n c h w"], *, margin: int, dim: int, tileable: bool) -> Tensor:
    """Pad one axis on both sides by any margin: wrapped if tileable, else mirrored with the edge repeated."""
    size = x.shape[dim]
    index = torch.arange(-margin, size + margin, device=x.device)
    if tileable:
        index = index % size
    else:
        index = index % (2 * size)
        index = torch.minimum(index, 2 * size - 1 - index)
    return x.index_select(dim, index)


def gaussian_blur(
    x: Float[Tensor, "n c h w"], *, sigma_px: float, tileable: bool
) -> Float[Tensor, "n c h w"]:
    """Apply a separable Gaussian blur, truncated at four sigma."""
    radius = max(1, math.ceil(4.0 * sigma_px))
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma_px).square())
    kernel = kernel / kernel.sum()
    for dim in (-1, -2):
        shape = (1, 1, 1, -1) if dim == -1 else (1, 1, -1, 1)
        padded = pad_axis(x, margin=radius, dim=dim, tileable=tileable)
        planes = padded.flatten(0, 1).unsqueeze(1)
        blurred = torch.nn.functional.conv2d(planes, kernel.view(shape))
        x = blurred.view(*x.shape[:2], *blurred.shape[-2:])
    return x


def percentile(x: Float[Tensor, "n c h w"], *, share: float) -> Float[Tensor, "n 1 1 1"]:
    """Return the value below which ``share`` of each sample is, as an exact order statistic.

    ``torch.quantile`` refuses more than 16 million elements; a texture of 4096 px has as many per channel.
    """
    flat = x.flatten(1)
    rank = 1 + round(share * (flat.shape[1] - 1))
    return flat.kthvalue(rank, dim=1).values.view(-1, 1, 1, 1)


def masked_mean(x: Float[Tensor, "n c h w"], valid: Bool[Tensor, "n 1 h w"]) -> Float[Tensor, "n c 1 1"]:
    """Return the mean of each channel over the valid pixels; 0 if a sample has none."""
    count = valid.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    mean: Tensor = torch.where(valid, x, 0.0).sum(dim=(2, 3), keepdim=True) / count
    return mean

"""Computes a coarse height from the normals of a whole texture, as input of the height and AO networks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.geometry.fields import gaussian_blur, percentile
from pbrlib.geometry.normals import mean_curvature, slopes

MIN_RELIEF_PX = 0.2
"""The smallest relief that is scaled to [-1, 1].

Less is noise of 8-bit normals: one bit of dither, integrated over 1024 px, spans 0.018 px between the
percentiles 1 and 99.
"""

BLUR_SHARE = 5.0 / 1024.0
"""Sigma of the blur, as a share of the longer side."""


def relief(normal: Float[Tensor, "n 3 h w"], *, tileable: bool) -> Float[Tensor, "n 2 h w"]:
    """Return the coarse Poisson height and the mean curvature of whole textures, both in [-1, 1]."""
    height = poisson_height(normal, tileable=tileable)
    return torch.cat((height, mean_curvature(normal, tileable=tileable)), dim=1)


def poisson_height(normal: Float[Tensor, "n 3 h w"], *, tileable: bool) -> Float[Tensor, "n 1 h w"]:
    """Return the coarse height in [-1, 1]: integrated normals, clipped to percentiles 1-99, scaled, blurred.

    A relief below :data:`MIN_RELIEF_PX` is scaled as if it were that large, so that a flat texture with
    dither gives nearly 0 everywhere.

    Args:
        normal: OpenGL normals of whole textures; crops would give other heights.
        tileable: Whether solver and blur are periodic; otherwise the texture is mirrored at its border.
    """
    solved = integrated_height(normal, tileable=tileable)
    low, high = percentile(solved, share=0.01), percentile(solved, share=0.99)
    spread = high - low
    centred = 2.0 * (solved.clamp(low, high) - low) / spread.clamp_min(1e-6) - 1.0
    unit = centred * (spread / MIN_RELIEF_PX).clamp_max(1.0)
    sigma_px = BLUR_SHARE * max(solved.shape[-2:])
    return gaussian_blur(unit, sigma_px=sigma_px, tileable=tileable).clamp(-1.0, 1.0)


def integrated_height(normal: Float[Tensor, "n 3 h w"], *, tileable: bool) -> Float[Tensor, "n 1 h w"]:
    """Return the zero-mean height in pixels whose slopes fit the normals best: laplace(h) = div(p, q)."""
    p, q = slopes(normal)
    height, width = p.shape[-2:]
    if not tileable:
        p, q = _mirror_slopes(_subtract_mean(p), _subtract_mean(q))
    return _integrate(p, q)[..., :height, :width]


def _subtract_mean(slope: Tensor) -> Tensor:
    """Subtract the mean slope.

    The mean slope of stored normals is off by up to half a step of 8 bits. In a mirrored texture it would add
    a roof that is higher than the relief. A periodic solver ignores the mean slope.
    """
    return slope - slope.mean(dim=(-2, -1), keepdim=True)


def _mirror_slopes(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Extend slopes by mirrored copies; the slope along the mirrored axis changes its sign."""
    p, q = torch.cat((p, -p.flip(-1)), dim=-1), torch.cat((q, q.flip(-1)), dim=-1)
    return torch.cat((p, p.flip(-2)), dim=-2), torch.cat((q, -q.flip(-2)), dim=-2)


def _integrate(p: Tensor, q: Tensor) -> Tensor:
    """Return the least-squares integral of periodic slopes, with zero mean (Frankot and Chellappa, 1988)."""
    height, width = p.shape[-2:]
    rows = 2.0 * math.pi * torch.fft.fftfreq(height, device=p.device).view(-1, 1)
    cols = 2.0 * math.pi * torch.fft.rfftfreq(width, device=p.device).view(1, -1)
    square = rows.square() + cols.square()
    square[0, 0] = 1.0
    divergence = -1j * (cols * torch.fft.rfft2(p) + rows * torch.fft.rfft2(q))
    spectrum = divergence / square
    spectrum[..., 0, 0] = 0.0
    integral: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return integral

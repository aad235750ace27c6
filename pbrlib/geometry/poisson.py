"""Height from normals over a whole texture: the coarse input of the height and AO networks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pbrlib.geometry.fields import gaussian_blur, percentile
from pbrlib.geometry.normals import mean_curvature, slopes

RESOLVED_PX = 0.2
"""The least relief that spans [-1, 1]. Normals of 8 bits cannot hold less: one bit of dither, integrated over
1024 px, spans 0.018 px between the percentiles 1 and 99."""

BLUR_SHARE = 5.0 / 1024.0
"""Sigma of the blur as a share of the longer side."""


def relief(normal: Float[Tensor, "n 3 h w"], *, tileable: bool) -> Float[Tensor, "n 2 h w"]:
    """Poisson-coarse height, then mean curvature, both in [-1, 1], of whole textures."""
    height = poisson_height(normal, tileable=tileable)
    return torch.cat((height, mean_curvature(normal, tileable=tileable)), dim=1)


def poisson_height(normal: Float[Tensor, "n 3 h w"], *, tileable: bool) -> Float[Tensor, "n 1 h w"]:
    """Coarse height in [-1, 1]: the integrated normals cut to percentiles 1-99, scaled and blurred.

    A relief of less than :data:`RESOLVED_PX` is scaled as if it spanned that: a flat texture gives 0
    everywhere, and one that is flat but for dither nearly so.

    Args:
        normal: OpenGL normals of whole textures: a crop has another height.
        tileable: periodic solve and blur; otherwise both continue the texture as in a mirror.
    """
    solved = integrated_height(normal, tileable=tileable)
    low, high = percentile(solved, share=0.01), percentile(solved, share=0.99)
    spread = high - low
    centred = 2.0 * (solved.clamp(low, high) - low) / spread.clamp_min(1e-6) - 1.0
    unit = centred * (spread / RESOLVED_PX).clamp_max(1.0)
    sigma_px = BLUR_SHARE * max(solved.shape[-2:])
    return gaussian_blur(unit, sigma_px=sigma_px, tileable=tileable).clamp(-1.0, 1.0)


def integrated_height(normal: Float[Tensor, "n 3 h w"], *, tileable: bool) -> Float[Tensor, "n 1 h w"]:
    """Height in pixels, zero mean, whose slopes are nearest to the normals: laplace(h) = div(p, q)."""
    p, q = slopes(normal)
    height, width = p.shape[-2:]
    if not tileable:
        p, q = _mirrored_slopes(_levelled(p), _levelled(q))
    return _integrated(p, q)[..., :height, :width]


def _levelled(slope: Tensor) -> Tensor:
    """Takes out the mean slope.

    Stored normals are flat to half a step of 8 bits; mirrored, that rest would build a roof higher than
    the relief itself. A periodic solve drops it unasked.
    """
    return slope - slope.mean(dim=(-2, -1), keepdim=True)


def _mirrored_slopes(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Continues slopes over mirrored neighbours: the mirrored component changes sign."""
    p, q = torch.cat((p, -p.flip(-1)), dim=-1), torch.cat((q, q.flip(-1)), dim=-1)
    return torch.cat((p, p.flip(-2)), dim=-2), torch.cat((q, -q.flip(-2)), dim=-2)


def _integrated(p: Tensor, q: Tensor) -> Tensor:
    """Least-squares integral of periodic slopes with zero mean (Frankot and Chellappa, 1988)."""
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

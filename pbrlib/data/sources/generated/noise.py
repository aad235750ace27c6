"""Periodic noise, and operations on periodic fields: blur, cavities, shifts per piece.

All fields are periodic on both axes. The size of the texture only changes the sampling of a field.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pbrlib.data.sources.generated.canvas import Canvas


def noise(
    canvas: Canvas,
    *,
    low: float = 1.0,
    high: float = 64.0,
    slope: float = 1.5,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Float[Tensor, "h w"]:
    """Return Gaussian noise with a power-law spectrum, zero mean and unit variance.

    Args:
        canvas: The canvas that samples the noise; frequencies above its Nyquist limit are omitted.
        low: Lowest frequency, in periods per texture.
        high: Highest frequency, in periods per texture.
        slope: The amplitude is proportional to the frequency to the power of minus ``slope``.
        stretch: Factors of the length of features along rows and along columns.
    """
    along, down = int(high / stretch[0]), int(high / stretch[1])
    fx = torch.arange(along + 1, dtype=torch.float32)
    fy = torch.cat([torch.arange(down + 1), torch.arange(-down, 0)]).float()
    radius = torch.hypot(fx[None, :] * stretch[0], fy[:, None] * stretch[1])
    band = (radius >= low) & (radius <= high)
    amplitude = torch.where(band, radius.clamp_min(0.5) ** -slope, torch.zeros(()))
    drawn = torch.randn(2, *amplitude.shape, generator=canvas.random) * amplitude
    power = 4.0 * drawn.double().square().sum() - 3.0 * drawn[:, :, 0].double().square().sum()
    coefficients = torch.complex(drawn[0], drawn[1]) / float(power.sqrt().clamp_min(1e-9)) * 2.0**0.5

    nyquist = (canvas.size - 1) // 2
    along, keep = min(along, nyquist), min(down, nyquist)
    spectrum = torch.zeros(canvas.size, canvas.size // 2 + 1, dtype=torch.complex64)
    spectrum[: keep + 1, : along + 1] = coefficients[: keep + 1, : along + 1]
    if keep:
        spectrum[-keep:, : along + 1] = coefficients[-keep:, : along + 1]
    field: Tensor = torch.fft.irfft2(spectrum.to(canvas.device), s=(canvas.size, canvas.size), norm="forward")
    return field


def blur(field: Float[Tensor, "h w"], *, radius: float) -> Float[Tensor, "h w"]:
    """Apply a periodic Gaussian blur; ``radius`` is the standard deviation in widths of the texture."""
    height, width = field.shape
    fy = torch.fft.fftfreq(height, 1.0 / height, device=field.device)
    fx = torch.fft.rfftfreq(width, 1.0 / width, device=field.device)
    scale = -2.0 * (torch.pi * radius) ** 2
    gain = torch.exp(scale * fy.square())[:, None] * torch.exp(scale * fx.square())
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(field) * gain, s=(height, width))
    return blurred


def cavity(elevation: Float[Tensor, "h w"], *, radius: float = 0.01, depth: float) -> Float[Tensor, "h w"]:
    """Return how far each point is below the blurred elevation, as a share in [0, 1] of ``depth``."""
    return ((blur(elevation, radius=radius) - elevation) / depth).clamp(0.0, 1.0)


def shift_per_piece(
    field: Float[Tensor, "h w"], *, index: Int[Tensor, "h w"], offsets: Float[Tensor, "2 n"]
) -> Float[Tensor, "h w"]:
    """Shift the field by a separate offset in each piece, so that patterns do not continue across pieces."""
    height, width = field.shape
    rows = torch.arange(height, device=field.device)[:, None]
    columns = torch.arange(width, device=field.device)[None, :]
    down = (offsets[0] * height).long()[index]
    along = (offsets[1] * width).long()[index]
    return field.flatten()[(rows + down) % height * width + (columns + along) % width]
